"""Quantile regression: a distribution of returns learned as a few equally likely values.

Source: Distributional Reinforcement Learning with Quantile Regression (arXiv 1710.10044).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from maxent_rl.losses.temporal_difference import huber


def quantile_midpoints(count: int) -> Array:
    """[count] the levels that `count` equally likely values stand for: `(2 i + 1) / (2 count)`.

    Source: arXiv 1710.10044, lemma 2.
    """
    return (jnp.arange(count) + 0.5) / count


def quantile_huber_loss(quantiles: Array, target: Array, delta: float | Array = 1.0) -> Array:
    """How far quantiles are from those of a target's distribution.

    With `u = target_j - quantile_i`: the sum over i of the mean over j of `|tau_i - [u < 0]| * huber(u)`.

    Args:
      quantiles: [..., N] values at the levels of `quantile_midpoints`, in units of return.
      target: [..., M] equally likely values; held constant.
      delta: [] where the loss goes from square to linear.

    Returns:
      [...] loss. Where it is least, a quantile whose errors are all large (against delta) has its share tau of the target
      below it; small errors pull it towards the mean.

    Source: arXiv 1710.10044, equation 10 and algorithm 1.
    """
    error = jax.lax.stop_gradient(target)[..., None, :] - quantiles[..., :, None]
    level = quantile_midpoints(quantiles.shape[-1])[:, None]
    weight = jnp.where(error < 0, 1.0 - level, level)
    return jnp.sum(jnp.mean(weight * huber(error, delta), axis=-1), axis=-1)
