"""HAPO: one score of each token's entropy decides how hot it is drawn, how far it is clipped, and how much it is credited.

High-entropy tokens, where responses fork, are drawn a little hotter, may rise further, and are credited more where they have
moved; low-entropy tokens are drawn colder, may fall further, and are credited less where they have not.

Source: From Uniform to Heterogeneous: Tailoring Policy Optimization to Every Token's Nature (arXiv 2509.16591), in the form
of the released code, but for the sign of low-entropy tokens. That code divides their score by a negative number, so that
they too get a positive one, against the paper's description; which of the two made the published tables is not confirmed
(`hapo_score`). Results are known from summaries alone.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.settings import Fraction, Interval, Positive, Weight, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import AdvantageStage, DynamicSampling, OverlongPenalty, relative_rewards
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.objectives.shapes import Shape
from maxent_rl.tokens.objectives.stage import Preset, Sampling, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree

_LEAST_ENTROPY, _LEAST_SQUARE, _LEAST_SCORE = 1e-8, 1e-8, 1e-8
_LEAST_DRAWN, _EPSILON_DRAWN = 1e-6, 1e-6  # the same two bounds where tokens are drawn


@struct.dataclass
class EntropyScale:
    """What the scores of one batch were measured against, to be carried to tokens that are drawn later.

    Attributes:
      pivot: [] logarithm of the entropy that scores 0.
      spread: [] root of the mean square of the distances from it.
      above: [] 1 over the largest distance above it, in spreads; 0 while nothing is known.
      below: [] 1 over the largest distance below.
    """

    pivot: Array
    spread: Array
    above: Array
    below: Array

    @classmethod
    def unknown(cls) -> EntropyScale:
        """Scores everything 0."""
        return cls(*(jnp.zeros(()) for _ in range(4)))

    def score(self, entropy: Array) -> Array:
        """[...] from -1 to 1, of entropies [...] in nats."""
        distance = (jnp.log(jnp.maximum(entropy, _LEAST_DRAWN)) - self.pivot) / (self.spread + _EPSILON_DRAWN)
        return jnp.clip(distance * jnp.where(distance > 0, self.above, self.below), -1.0, 1.0)


@struct.dataclass
class EntropyTemperature:
    """The factor `1 + width * score` of each token's temperature."""

    scale: EntropyScale
    width: ArrayLike

    def __call__(self, entropy: Array) -> Array:
        """[...] factors, of entropies [...] in nats."""
        return 1.0 + jnp.asarray(self.width) * self.scale.score(entropy)


@struct.dataclass
class TokenGroupAdvantage(AdvantageStage):
    """Each reward against the mean over all tokens of its group, in deviations over these tokens: long responses weigh more.

    The advantages of a group's tokens sum to 0. Where one would be `pooled_most` or more, as where few tokens are in right
    answers, the group is compared response by response, as in GRPO. Groups of equal rewards have 0.
    """

    pooled_epsilon: Positive = 1e-6
    """Added to the standard deviation."""
    pooled_most: Positive = 5.0
    """The advantage at which a group is compared response by response instead."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N]."""
        groups = Grouping.of(batch)
        rewards, lengths = jnp.where(groups.valid, batch.outcomes, 0.0), jnp.sum(batch.mask, axis=-1)
        tokens = jnp.maximum(groups.total(lengths), 1)
        below = rewards - groups.largest(rewards)
        size = groups.largest(jnp.abs(rewards))
        centred = losses.without_rounding(below - groups.total(lengths * below) / tokens, size)
        # Squares of deviations beyond 1e19 are beyond all numbers.
        unit = jnp.maximum(groups.largest(jnp.abs(centred)), 1e-30)
        spread = unit * jnp.sqrt(groups.total(lengths * (centred / unit) ** 2) / tokens)
        pooled = centred / (spread + self.pooled_epsilon)
        far = groups.largest(jnp.where(lengths > 0, jnp.abs(pooled), 0.0)) >= self.pooled_most
        plain = relative_rewards(batch, "group", self.pooled_epsilon)
        found = jnp.where(far, plain, pooled)
        differ = groups.deviation(rewards) > 0
        return state, dataclasses.replace(batch, advantages=jnp.where(differ, found, 0.0))


@struct.dataclass
class HAPO(Shape):
    """Scores tokens by their entropy, sets the clip widths by the score, and redistributes advantages.

    The score of a step is that of the policy that learns, over all tokens of the step (the released code: of a micro-batch).
    Temperatures of the next batch follow from the scores of this one; the first is drawn as it is.
    """

    entropy_pivot: Fraction = 0.8
    """The share of tokens whose entropy scores 0 or less (0.8 in all published recipes)."""
    hapo_score: Literal["signed", "literal"] = static("signed")
    """Whether low entropy scores below 0, or, as in the released code, above."""
    temperature_width: Annotated[float, Interval(0, 1, high_open=True)] = 0.05
    """How much hotter than the others the least certain tokens are drawn, and how much colder the most certain ones."""
    clip_strength: Fraction = 1.0
    """How much wider clipping becomes with the score."""
    credit_strength: Fraction = 1.0
    """How much advantages change with it."""
    hapo_clip_low: Fraction = 0.2
    """The lower clip width at a score of 0."""
    hapo_clip_high: Weight = 0.2
    """The upper one."""
    hapo_ratio: Literal["policy", "drawn"] = static("policy")
    """What ratios are relative to: the policy at its own temperature, as in the released code, which is slightly wrong for
    tokens that were drawn hotter or colder; or what they were drawn from, exactly."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Entropies of both policies; the distribution that was drawn from, if ratios are relative to it."""
        return ("entropy", "entropy_old", *(("logp_drawn",) if self.hapo_ratio == "drawn" else ()))

    def init(self, key: jax.Array) -> PyTree:
        """Nothing is known."""
        return EntropyScale.unknown()

    def sampling(self, state: PyTree) -> Sampling:
        """Temperatures by the scores of the last batch."""
        return Sampling(temperature=EntropyTemperature(state, self.temperature_width))

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Measures the entropies of the batch, for the temperatures of the next."""
        assert batch.entropy_old is not None
        _, scale = entropy_score(batch.entropy_old, batch.mask, self.entropy_pivot)
        scale = jax.tree.map(lambda new, old: jnp.where(jnp.any(batch.mask), new, old), scale, state)
        if self.hapo_ratio == "drawn":
            assert batch.logp_drawn is not None
            batch = dataclasses.replace(batch, logp_old=batch.logp_drawn)
        return scale, batch

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Finds the score of each token [N, T]."""
        assert work.outputs.entropy is not None
        score, _ = entropy_score(work.outputs.entropy, work.mask, self.entropy_pivot, self.hapo_score == "literal")
        return state, work.replace(found=score)

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the clip widths [N, T] and the advantages [N, T]."""
        score = work.found
        assert score is not None
        low, high = self.widths(score)
        inner = (work.ratio > 1.0 - low / 2.0) & (work.ratio < 1.0 + high / 2.0)
        changed = jnp.where(score > 0, ~inner, inner)
        advantages = jnp.where(changed, work.advantages * (1.0 + self.credit_strength * score), work.advantages)
        work = work.measure(**{"hapo/high_share": losses.masked_mean(score > 0, work.mask)})
        work = work.replace(clip_low=low, clip_high=high, advantages=jax.lax.stop_gradient(advantages))
        return state, work

    def widths(self, score: Array) -> tuple[Array, Array]:
        """The clip widths below and above, [...] each, of scores [...]."""
        low = self.hapo_clip_low * (1.0 - self.clip_strength * jnp.minimum(score, 0.0))
        return low, self.hapo_clip_high * (1.0 + self.clip_strength * jnp.maximum(score, 0.0))


def entropy_score(
    entropy: Array, mask: Array, pivot: ArrayLike = 0.8, literal: bool = False
) -> tuple[Array, EntropyScale]:
    """Scores tokens by the logarithm of their entropy: 0 at a quantile of the batch, 1 at the largest, -1 at the smallest.

    Args:
      entropy: [N, T] nats; held constant.
      mask: [N, T] the tokens that are compared.
      pivot: [] the quantile that scores 0; that of the token nearest to it.
      literal: divide scores below 0 by the smallest itself, as the released code does, which makes them positive.

    Returns:
      (score [N, T], 0 where masked; what it was measured against).

    Source: arXiv 2509.16591, released code.
    """
    logarithm = jnp.log(jnp.maximum(jax.lax.stop_gradient(entropy), _LEAST_ENTROPY))
    count = jnp.sum(mask)
    ordered = jnp.sort(jnp.where(mask, logarithm, jnp.inf), axis=None)
    place = jnp.round(jnp.asarray(pivot) * jnp.maximum(count - 1, 0)).astype(jnp.int32)
    middle = jnp.where(count > 0, ordered[place], 0.0)
    # Entropies that differ by rounding alone must not become the largest and the smallest.
    distance = losses.without_rounding(logarithm - middle, jnp.maximum(jnp.abs(logarithm), jnp.abs(middle)))
    distance = jnp.where(mask, distance, 0.0)
    spread = jnp.sqrt(jnp.maximum(jnp.sum(distance**2) / jnp.maximum(count, 1), _LEAST_SQUARE))
    distance = distance / spread
    highest = jnp.maximum(jnp.max(distance, initial=0.0), _LEAST_SCORE)
    lowest = jnp.minimum(jnp.min(distance, initial=0.0), -_LEAST_SCORE)
    score = jnp.where(distance > 0, distance / highest, distance / (lowest if literal else -lowest))
    return score, EntropyScale(middle, spread, 1.0 / highest, -1.0 / lowest)


PRESETS: dict[str, Preset] = {
    "hapo": Preset(
        "clip widths, advantages and sampling temperatures by a score of each token's entropy; rewards compared by token",
        "From Uniform to Heterogeneous: Tailoring Policy Optimization to Every Token's Nature, arXiv 2509.16591",
        (DynamicSampling(), OverlongPenalty(), TokenGroupAdvantage(), HAPO(), Clipped(dual_clip=10.0), Aggregate()),
    ),
}
