"""Expectile regression: between the mean and the maximum of what is seen, without ever asking for more than is seen."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision


@in_single_precision
def expectile_loss(error: ArrayLike, expectile: ArrayLike) -> Array:
    """An asymmetric squared error: `|expectile - 1(error < 0)| * error**2`.

    Args:
      error: [...] observed minus predicted.
      expectile: [] or [...] weight of errors above 0, in (0, 1); 1 minus it is that of errors below. At 1/2 the minimiser is
        the mean, towards 1 it becomes the maximum.

    Returns:
      [...] loss per element, in units of the error squared.

    Source: Offline Reinforcement Learning with Implicit Q-Learning (arXiv 2110.06169), equation 5 with its L2 (section 4.1).
    """
    error = jnp.asarray(error)
    return jnp.where(error < 0.0, 1.0 - jnp.asarray(expectile), jnp.asarray(expectile)) * error**2
