"""Weights that are moved from step to step until what they act on is where it should be, without a gradient.

`losses.temperature` has the other way, a multiplier that is learned in its logarithm.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision


@in_single_precision
def proportional_weight(
    weight: ArrayLike,
    measured: ArrayLike,
    target: ArrayLike,
    count: ArrayLike,
    horizon: ArrayLike = 10_000.0,
    most: ArrayLike = 0.2,
) -> Array:
    """A penalty's weight, moved by a share of itself: `weight * (1 + error * count / horizon)`.

    The error is `measured / target - 1`, within `most` of 0.

    Args:
      weight: [] now.
      measured: [] what is penalised, such as a divergence in nats; held constant.
      target: [] what it should be, in the same unit; above 0.
      count: [] samples that it was measured on.
      horizon: [] samples in which a weight that is always pushed as far as can be changes by a share of `most`, about.
      most: [] bound of the relative error.

    Returns:
      [] for the next step; above 0 while `most * count` is below `horizon`.

    Source: Fine-Tuning Language Models from Human Preferences (arXiv 1909.08593), section 2.2, where `most` is 0.2.
    """
    error = jax.lax.stop_gradient(jnp.asarray(measured)) / jnp.asarray(target) - 1.0
    error = jnp.clip(error, -jnp.asarray(most), jnp.asarray(most))
    return jnp.asarray(weight) * (1.0 + error * jnp.asarray(count) / jnp.asarray(horizon))


@in_single_precision
def stepped_weight(
    weight: ArrayLike, measured: ArrayLike, target: ArrayLike, step: ArrayLike, most: ArrayLike = jnp.inf
) -> Array:
    """A bonus's weight, raised by `step` where what is paid for is below its target, and lowered by it where it is above.

    Args:
      weight: [] now.
      measured: [] what is paid for, such as an entropy in nats; held constant.
      target: [] what it should be at least.
      step: [] how far the weight moves.
      most: [] the largest weight.

    Returns:
      [] for the next step, from 0 to `most`.

    Source: Skywork Open Reasoner 1 (arXiv 2505.22312), adaptive entropy control.
    """
    direction = jnp.sign(jnp.asarray(target) - jax.lax.stop_gradient(jnp.asarray(measured)))
    return jnp.clip(jnp.asarray(weight) + jnp.asarray(step) * direction, 0.0, jnp.asarray(most))
