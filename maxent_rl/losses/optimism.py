"""Optimism about actions whose value critics disagree on, and what it costs to follow it.

Source: Bigger, Regularized, Optimistic: scaling for compute and sample-efficient continuous control (arXiv 2405.16158).
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision


@in_single_precision
def optimistic_value(values: Array, optimism: ArrayLike) -> Array:
    """The mean of two critics' values and a share of half their distance: 1 for the greater one, -1 for the lesser.

    Args:
      values: [2, ...] of two critics, or [critic, ...] of more, whose distance is that of the greatest and the least; of
        quantile critics each quantile by itself. In units of return.
      optimism: [] or [...] the share.

    Returns:
      [...] values.

    Source: arXiv 2405.16158, section 3; the mean over quantiles is the caller's.
    """
    distance = jnp.max(values, axis=0) - jnp.min(values, axis=0)
    return jnp.mean(values, axis=0) + 0.5 * optimism * distance


@in_single_precision
def shift_divergence(shift: Array, log_std: Array) -> Array:
    """KL divergence of diagonal Gaussians of equal deviations whose means lie apart: `sum of shift^2 / (2 sigma^2)`.

    Args:
      shift: [..., action] difference of the means.
      log_std: [..., action] natural logarithm of the standard deviations.

    Returns:
      [...] nats.

    Source: arXiv 2405.16158, whose released code divides the second policy's deviations by what they were narrowed by.
    """
    # Of deviations below 1e-13 the inverse variance would leave single precision, times a square of the shift.
    precision = jnp.exp(jnp.minimum(-2.0 * log_std, 60.0))
    return 0.5 * jnp.sum(jnp.square(shift) * precision, axis=-1)
