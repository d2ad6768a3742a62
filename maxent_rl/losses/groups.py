"""Advantages from rewards alone: each sample compared with the others of its group, or with the whole batch.

Source: the advantage formulas of DeepSeekMath (GRPO, arXiv 2402.03300), Dr. GRPO (2503.20783), RLOO (2402.14740) and
REINFORCE++ (2501.03262), in the forms of the TRL and verl trainers.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.aggregation import masked_deviation
from maxent_rl.losses.rounding import rounding_of


def group_advantages(
    rewards: ArrayLike,
    scale: str = "group",
    epsilon: ArrayLike = 1e-6,
    leave_one_out: bool = False,
) -> Array:
    """How much better each sample was than its group.

    All standard deviations have Bessel's correction. A reward that is the group's mean but for rounding has an advantage of
    exactly 0, and so have all of a group of equal ones.

    Args:
      rewards: [group, sample] with the samples of a group along the last axis.
      scale: "group" divides by the group's standard deviation plus epsilon, "batch" by that of all rewards, "none" by
        nothing (Dr. GRPO).
      epsilon: added to the standard deviation: 1e-6 in verl, 1e-4 in TRL.
      leave_one_out: compare with the mean of the other samples (RLOO).

    Returns:
      [group, sample], without gradient. A group of one sample keeps its reward (divided by 1 + epsilon where scaled).

    Raises:
      ValueError: there is no such scale.
    """
    if scale not in ("group", "batch", "none"):
        raise ValueError(f"Unknown scale {scale!r}; there are group, batch, none.")
    rewards = jax.lax.stop_gradient(jnp.asarray(rewards, jnp.float32))
    size = rewards.shape[-1]
    if size == 1:
        centred = rewards
    else:
        # Differences first: those of almost equal rewards are exact, and what their mean loses is less than they are.
        difference = rewards - rewards[..., :1]
        centred = difference - jnp.mean(difference, axis=-1, keepdims=True)
        # Rounding is not small beside epsilon: equal rewards must give 0, not noise of size 1, and a reward that is the
        # mean no sign. Sums of the same rewards in another order are equal, too.
        equal = jnp.all(rewards == rewards[..., :1], axis=-1, keepdims=True)
        rounding = rounding_of(jnp.max(jnp.abs(rewards), axis=-1, keepdims=True))
        centred = jnp.where(equal | (jnp.abs(centred) < rounding), 0.0, centred)
        if leave_one_out:
            centred = centred * (size / (size - 1))
    if scale == "none":
        return centred
    if scale == "batch":
        deviation = jnp.std(rewards, ddof=1) if rewards.size > 1 else jnp.ones(())
    else:
        deviation = jnp.std(rewards, axis=-1, keepdims=True, ddof=1) if size > 1 else jnp.ones(())
    return centred / (deviation + jnp.asarray(epsilon))


def others_advantages(rewards: ArrayLike, mask: ArrayLike) -> Array:
    """How much better each valid sample was than the mean of the other valid ones.

    The mean of the others does not depend on the sample's own actions, so that it is a baseline without bias.

    Args:
      rewards: [sample].
      mask: [sample] where a sample counts.

    Returns:
      [sample], without gradient; 0 where masked, where no other counts, and everywhere if all that count are equal.

    Source: RLOO (arXiv 2402.14740), equation 7.
    """
    valid = jnp.asarray(mask, bool)
    count = jnp.sum(valid)
    deviation = masked_deviation(jax.lax.stop_gradient(jnp.asarray(rewards)), valid)
    return deviation * (count / jnp.maximum(count - 1, 1))


def whiten(values: ArrayLike, mask: ArrayLike | None = None, epsilon: ArrayLike = 1e-8, ddof: int = 1) -> Array:
    """Shifts and scales valid values to mean 0 and variance 1: `(x - mean) / sqrt(variance + epsilon)`.

    Args:
      values: [...].
      mask: [...] where a value counts; None for everywhere.
      epsilon: added to the variance.
      ddof: 1 for Bessel's correction, 0 for the population's variance.

    Returns:
      [...]; 0 where masked, and everywhere if at most `ddof` values count or all that count are equal.

    Source: verl's masked whitening.
    """
    values = jnp.asarray(values)
    valid = jnp.ones(values.shape, bool) if mask is None else jnp.asarray(mask, bool)
    count = jnp.sum(valid)
    deviation = masked_deviation(values, valid)
    variance = jnp.sum(deviation**2) / jnp.maximum(count - ddof, 1)
    return deviation * jax.lax.rsqrt(variance + jnp.asarray(epsilon)) * (count > ddof)
