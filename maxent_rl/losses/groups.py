"""Advantages from rewards alone: each sample compared with the others of its group, or with the whole batch.

Source: the advantage formulas of DeepSeekMath (GRPO, arXiv 2402.03300), Dr. GRPO (2503.20783), RLOO (2402.14740) and
REINFORCE++ (2501.03262), in the forms of the TRL and verl trainers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.aggregation import masked_deviation
from maxent_rl.losses.precision import in_single_precision
from maxent_rl.losses.rounding import apart, without_rounding


@in_single_precision
def group_advantages(
    rewards: ArrayLike,
    scale: str = "group",
    epsilon: ArrayLike = 1e-6,
    leave_one_out: bool = False,
    mask: ArrayLike | None = None,
    group_index: ArrayLike | None = None,
) -> Array:
    """How much better each sample was than its group.

    All standard deviations have Bessel's correction. A reward that is the group's mean but for rounding has an advantage of
    exactly 0, and so have all of a group of equal ones.

    Args:
      rewards: [group, sample] with the samples of a group along the last axis; [sample] with a `group_index`.
      scale: "group" divides by the group's standard deviation plus epsilon, "batch" by that of all rewards, "none" by
        nothing (Dr. GRPO).
      epsilon: added to the standard deviation: 1e-6 in verl, 1e-4 in TRL.
      leave_one_out: compare with the mean of the other samples (RLOO).
      mask: as rewards: which samples have one; the others count in no statistic, and what they hold never matters. None
        for all.
      group_index: [sample] whole numbers, equal for the samples of a group, which may be of any size and in any order.

    Returns:
      As rewards, without gradient; 0 where masked. A group of one sample keeps its reward (divided by 1 + epsilon where
      scaled); the only one of a larger group that has a reward has nothing to be compared with, and 0.

    Raises:
      ValueError: there is no such scale; `group_index` has not the shape of the rewards.
    """
    if scale not in ("group", "batch", "none"):
        raise ValueError(f"Unknown scale {scale!r}; there are group, batch, none.")
    rewards, valid, group = _grouped(rewards, mask, group_index)
    count = group.total(valid)
    # Differences first: those of almost equal rewards are exact, and what their mean loses is less than they are.
    difference = jnp.where(valid, rewards - group.largest(jnp.where(valid, rewards, -jnp.inf)), 0.0)
    deviation = jnp.where(valid, difference - group.total(difference) / jnp.maximum(count, 1), 0.0)
    # Rounding is not small beside epsilon: equal rewards must give 0, not noise of size 1, and a reward that is the
    # mean no sign. Sums of the same rewards in another order are equal, too.
    centred = without_rounding(deviation, group.largest(jnp.abs(rewards)))
    if leave_one_out:
        centred = centred * (count / jnp.maximum(count - 1, 1))
    alone = group.total(jnp.ones_like(valid)) == 1
    centred = jnp.where(alone, rewards, centred)
    if scale == "none":
        return centred
    if scale == "batch":
        spread = _standard_deviation(masked_deviation(rewards, valid), jnp.sum(valid), jnp.sum, jnp.max)
    else:
        spread = _standard_deviation(deviation, count, group.total, group.largest)
    return centred / (spread + jnp.asarray(epsilon))


@in_single_precision
def differing_groups(rewards: ArrayLike, mask: ArrayLike | None = None, group_index: ArrayLike | None = None) -> Array:
    """Whether the rewards of a sample's group differ, by more than rounding: groups of equal ones teach nothing.

    Args:
      rewards: [group, sample]; [sample] with a `group_index`.
      mask: as for `group_advantages`.
      group_index: as for `group_advantages`.

    Returns:
      As rewards, bool, the same for all samples of a group. True for a group of one sample that has a reward, which is
      compared with nothing.

    Raises:
      ValueError: `group_index` has not the shape of the rewards.

    Source: dynamic sampling of DAPO (arXiv 2503.14476); verl's keeps groups of one.
    """
    rewards, valid, group = _grouped(rewards, mask, group_index)
    highest = group.largest(jnp.where(valid, rewards, -jnp.inf))
    lowest = -group.largest(jnp.where(valid, -rewards, -jnp.inf))
    count, size = group.total(valid), group.total(jnp.ones_like(valid))
    differ = jnp.where(size == 1, count == 1, (count > 1) & apart(highest, lowest))
    return jnp.broadcast_to(differ, rewards.shape)


@in_single_precision
def mixed_group_probability(success: ArrayLike, size: int) -> Array:
    """How likely a group has right and wrong answers, so that it teaches: `1 - p^G - (1 - p)^G`.

    Where each of n steps succeeds with probability q, an episode does with `p = q^n`: groups of long ones are dead.

    Args:
      success: [...] probability p of a right answer.
      size: G, answers of a group.

    Returns:
      [...] from 0 to `1 - 2^(1-G)`, its value at p = 1/2.

    Source: own derivation, for CRAFT-GUI (arXiv 2508.11360).
    """
    success = jnp.asarray(success)
    return 1.0 - success**size - (1.0 - success) ** size


@in_single_precision
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


@in_single_precision
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


class _Group(NamedTuple):
    """What is said of the group of each sample, where samples are: sums, and the largest of their values."""

    total: Callable[[Array], Array]
    largest: Callable[[Array], Array]


def _grouped(rewards: ArrayLike, mask: ArrayLike | None, group_index: ArrayLike | None) -> tuple[Array, Array, _Group]:
    """Rewards without gradient and 0 where there are none; which there are; and their groups."""
    rewards = jax.lax.stop_gradient(jnp.asarray(rewards, jnp.float32))
    valid = jnp.ones(rewards.shape, bool) if mask is None else jnp.asarray(mask, bool)
    rewards = jnp.where(valid, rewards, 0.0)
    if group_index is None:
        return (
            rewards,
            valid,
            _Group(
                lambda values: jnp.sum(values, axis=-1, keepdims=True),
                lambda values: jnp.max(values, axis=-1, keepdims=True),
            ),
        )
    index, size = jnp.asarray(group_index), rewards.shape[0]
    if rewards.ndim != 1 or index.shape != rewards.shape:
        raise ValueError(
            f"Expected a group_index for each of rewards [sample], got shapes {index.shape} and {rewards.shape}."
        )
    _, member = jnp.unique(index, return_inverse=True, size=size)
    return (
        rewards,
        valid,
        _Group(
            lambda values: jax.ops.segment_sum(values.astype(jnp.float32), member, size)[member],
            lambda values: jax.ops.segment_max(values, member, size)[member],
        ),
    )


def _standard_deviation(
    deviation: Array, count: Array, total: Callable[[Array], Array], largest: Callable[[Array], Array]
) -> Array:
    """Of deviations that sum to 0, with Bessel's correction; 1 for fewer than two. Their squares may be beyond all numbers."""
    size = largest(jnp.abs(deviation))
    share = deviation / jnp.where(size > 0, size, 1.0)
    return jnp.where(count > 1, size * jnp.sqrt(total(share**2) / jnp.maximum(count - 1, 1)), 1.0)
