"""Clip_B and Clip_V: leave out the tokens whose update would lower the entropy most.

The discriminant `S = p (H + log p)` of a token, less its mean, says whether raising the token lowers the entropy and by how
much. Clip_B takes the mean over the batch, Clip_V over the vocabulary. Both look once at each batch of responses, as they
were drawn.

Source: On the Entropy Dynamics in Reinforcement Fine-Tuning of Large Language Models (arXiv 2602.03392), in the form of the
released code: only tokens of negative advantage, one side. The masks that the paper prints could not be confirmed; the
other rules here are this library's.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, TypeAlias

import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.settings import Fraction, Weight, static
from maxent_rl.tokens.batch import TokenBatch, token_advantages
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.selection import largest, share_of
from maxent_rl.tokens.objectives.shapes import Shape
from maxent_rl.tokens.objectives.stage import Preset, Statistic
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree

Rule: TypeAlias = Literal["negative", "signed", "two-sided", "reversed"]
_NO_SPREAD = 1e-12


@struct.dataclass
class ClipB(Shape):
    """Masks the tokens whose discriminant lies too far from the batch's mean."""

    needs: ClassVar[tuple[str, ...]] = ("entropy_old",)
    clip_b_width: Weight = 2.5
    """How far is too far, in standard deviations of the discriminant."""
    clip_b_width_above: Weight | None = None
    """The same above the mean, for the rule two-sided; None for as below."""
    clip_b_rule: Rule = static("negative")
    """negative: only punished tokens that would lower entropy; signed: all that would; reversed: all that would raise it."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Takes tokens out of the mask [N, T]."""
        discriminant = _discriminant(batch)
        distance = losses.masked_deviation(discriminant, batch.mask)
        spread = _deviation(discriminant, batch.mask)
        outside, _ = _outside(distance, spread, batch, self.clip_b_rule, self.clip_b_width, self.clip_b_width_above)
        return state, dataclasses.replace(batch, mask=batch.mask & ~outside)


@struct.dataclass
class ClipV(Shape):
    """Masks the few tokens whose discriminant lies farthest from its mean over the vocabulary.

    Where any token is too far, at least one is masked, however small `clip_v_share` is.
    """

    needs: ClassVar[tuple[str, ...]] = ("entropy_old",)
    clip_v_width: Weight = 8.5
    """How far is too far, in standard deviations of the distance over the batch."""
    clip_v_width_above: Weight | None = None
    """The same above the mean, for the rule two-sided; None for as below."""
    clip_v_share: Fraction = 1e-4
    """The largest share of all tokens that is masked, at least one token; the farthest go first."""
    clip_v_rule: Rule = static("negative")
    """negative: only punished tokens that would lower entropy; signed: all that would; reversed: all that would raise it."""

    def statistics(self, state: PyTree) -> dict[str, Statistic]:
        """The mean of the discriminant over the vocabulary."""
        return {"expected_discriminant": expected_discriminant}

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Takes tokens out of the mask [N, T]."""
        distance = _discriminant(batch) - batch.statistics["expected_discriminant"]
        spread = _deviation(distance, batch.mask)
        outside, size = _outside(distance, spread, batch, self.clip_v_rule, self.clip_v_width, self.clip_v_width_above)
        removed = largest(size, outside, share_of(jnp.sum(batch.mask), self.clip_v_share))
        return state, dataclasses.replace(batch, mask=batch.mask & ~removed)


def expected_discriminant(log_probs: Array, tokens: Array) -> Array:
    """The statistic `losses.expected_discriminant`: of the vocabulary alone, whatever token was drawn."""
    return losses.expected_discriminant(log_probs)


def _discriminant(batch: TokenBatch) -> Array:
    assert batch.entropy_old is not None
    return losses.entropy_discriminant(batch.logp_old, batch.entropy_old)


def _deviation(values: Array, mask: Array) -> Array:
    """The standard deviation of the valid values, without Bessel's correction."""
    return jnp.sqrt(losses.masked_mean(losses.masked_deviation(values, mask) ** 2, mask))


def _outside(
    distance: Array, spread: Array, batch: TokenBatch, rule: Rule, low: ArrayLike, high: ArrayLike | None
) -> tuple[Array, Array]:
    """Which tokens lie outside their bound, and by what they are ranked; tokens without advantage never do."""
    advantages = token_advantages(batch)
    lowers = jnp.sign(advantages) * distance  # to first order an update lowers the entropy by its size times this
    eligible, size, width = batch.mask & (advantages != 0), lowers, jnp.asarray(low)
    if rule == "negative":
        eligible = batch.mask & (advantages < 0)
    elif rule == "reversed":
        size = -lowers
    elif rule == "two-sided":
        size = jnp.abs(distance)
        width = jnp.where(distance < 0, width, width if high is None else jnp.asarray(high))
    return eligible & (spread >= _NO_SPREAD) & (size > width * spread), size


PRESETS: dict[str, Preset] = {
    "clip_b": Preset(
        "without unlikely tokens whose punishment would lower the entropy, by the spread over the batch",
        "On the Entropy Dynamics in Reinforcement Fine-Tuning of Large Language Models, arXiv 2602.03392",
        (GroupAdvantage(), ClipB(), Clipped(), Aggregate()),
    ),
    "clip_v": Preset(
        "the same, by the distance from the mean over the vocabulary",
        "On the Entropy Dynamics in Reinforcement Fine-Tuning of Large Language Models, arXiv 2602.03392",
        (GroupAdvantage(), ClipV(), Clipped(), Aggregate()),
    ),
}
