"""Regulariser stages that any objective can have: divergence from a reference, entropy bonus, only uncertain tokens.

The weights of the first two are fixed, or move from batch to batch (`AdaptiveKLPenalty`), or from step to step
(`AdaptiveEntropyBonus`).
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.losses.divergence import KLEstimator
from maxent_rl.settings import Finite, Fraction, Positive, Weight, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import drawn_divergence
from maxent_rl.tokens.objectives.aggregates import of_part
from maxent_rl.tokens.objectives.stage import Slot, Stage, Work
from maxent_rl.types import PyTree

EntropyAverage: TypeAlias = Literal["loss", "tokens"]


class Regulariser(Stage):
    """A stage that adds a term to each token's loss, or replaces the loss of some."""

    slot: ClassVar[Slot] = "regulariser"


@struct.dataclass
class KLPenalty(Regulariser):
    """Adds the divergence from a reference policy to the loss (`losses.kl_estimate`).

    A shape stage may weigh it token by token (`Work.kl_weight`).
    """

    needs: ClassVar[tuple[str, ...]] = ("logp_ref",)
    kl_weight: Weight = 0.001
    """Weight of the divergence (TRL's beta, verl's kl_loss_coef)."""
    kl_estimator: KLEstimator = static("k3")
    """Which estimator; a name with + has the gradient of k2."""
    kl_largest: Positive | None = static(None)
    """Clamp k3 to +-this (verl: 10); None for no clamp."""
    kl_unbiased: bool = static(False)
    """Multiply by the importance ratio, which makes the estimate unbiased off-policy."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds to the penalty [N, T]."""
        divergence = _reference_divergence(work, self.kl_estimator, self.kl_largest)
        if self.kl_unbiased:
            divergence = divergence * work.ratio
        return state, work.replace(penalty=work.penalty + self.kl_weight * divergence)


@struct.dataclass
class AdaptiveKLPenalty(Regulariser):
    """Adds the divergence from a reference policy, with a weight that grows while it is above a target and falls while below.

    The weight moves once for each batch, by the divergence of the policy that drew it (`losses.proportional_weight`), before
    the batch is learned from. It is the state of the stage, so that it is saved with it.

    Source: Fine-Tuning Language Models from Human Preferences (arXiv 1909.08593), section 2.2, where the divergence is part of
    the reward: `AdaptiveKLReward`.
    """

    needs: ClassVar[tuple[str, ...]] = ("logp_ref",)
    adaptive_kl_target: Positive = 0.1
    """The divergence to hold, in nats per token: the mean over responses of their mean."""
    adaptive_kl_weight: Positive = 0.001
    """The weight before the first batch."""
    adaptive_kl_horizon: Positive = 10_000.0
    """Responses in which the weight changes by a fifth, if it is pushed as far as can be."""
    adaptive_kl_estimator: KLEstimator = static("k3")
    """Which estimator, of what is added and of what the weight is moved by."""

    def init(self, key: Array) -> PyTree:
        """The first weight."""
        return jnp.asarray(self.adaptive_kl_weight, jnp.float32)

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Moves the weight."""
        measured, count = drawn_divergence(batch, self.adaptive_kl_estimator)
        moved = losses.proportional_weight(state, measured, self.adaptive_kl_target, count, self.adaptive_kl_horizon)
        return moved, batch

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds to the penalty [N, T]."""
        divergence = _reference_divergence(work, self.adaptive_kl_estimator)
        work = work.measure(**{"reference/kl_weight": state})
        return state, work.replace(penalty=work.penalty + state * divergence)


def _reference_divergence(work: Work, estimator: KLEstimator, largest: float | None = None) -> Array:
    """[N, T] from the reference, weighed by what a shape stage said of single tokens."""
    assert work.batch.logp_ref is not None
    divergence = losses.kl_estimate(work.outputs.logp, work.batch.logp_ref, estimator, largest)
    return divergence if work.kl_weight is None else work.kl_weight * divergence


@struct.dataclass
class EntropyBonus(Regulariser):
    """Rewards entropy with a fixed weight.

    After `UncertainTokens` it is the entropy of the tokens alone that those keep, and their mean (as in TRL).
    """

    needs: ClassVar[tuple[str, ...]] = ("entropy",)
    entropy_bonus: Finite = 0.01
    """Weight of the entropy, in advantage per nat; a negative one lowers entropy."""
    entropy_average: EntropyAverage = static("loss")
    """Averaged as the loss is (verl), or over all tokens, however that is (TRL)."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds the bonus."""
        return state, with_bonus(work, self.entropy_bonus, self.entropy_average)


def with_bonus(work: Work, weight: Array | float, average: EntropyAverage = "loss") -> Work:
    """The entropy of each token rewarded with a weight [] or [N, T], where only some tokens count, of those."""
    assert work.outputs.entropy is not None
    bonus = weight * work.outputs.entropy
    bonus = bonus if work.kept is None else work.kept * bonus
    if average == "loss":
        return work.replace(penalty=work.penalty - bonus)
    count = jnp.maximum(work.batch.count("tokens", jnp.sum(work.mask)), 1)
    mean = jnp.sum(jnp.where(work.mask, bonus, 0.0)) / count
    return work.replace(extra=work.extra - of_part(mean, work.batch))


@struct.dataclass
class AdaptiveEntropyBonus(Regulariser):
    """Rewards entropy while its mean over the step is at most a target, with a weight that each such step raises.

    The weight goes up by a fixed amount at each step below the target and down by it at each step above, never below 0
    (`losses.stepped_weight`); above the target nothing is rewarded or punished, whatever the weight. `EntropyTarget` moves the
    logarithm of its weight by Adam instead, adds a proportional term, and punishes what is above: it holds an entropy from
    both sides, this one from below alone. What the entropy is, and how its bonus is averaged, is the same.

    Source: Skywork Open Reasoner 1 (arXiv 2505.22312); bounds as in TRL's `use_adaptive_entropy`, which asks for the entropy
    of the step before, where this stage has that of the step itself.
    """

    needs: ClassVar[tuple[str, ...]] = ("entropy",)
    adaptive_entropy_target: Weight = 0.2
    """The least entropy to hold, in nats per token."""
    adaptive_entropy_step: Positive = 0.005
    """How far the weight moves at each step, in advantage per nat."""
    adaptive_entropy_weight: Weight = 0.0
    """The weight before the first step."""
    adaptive_entropy_most: Positive = 1.0
    """The largest weight."""
    adaptive_entropy_average: EntropyAverage = static("loss")
    """Averaged as the loss is, or over all tokens, however that is (TRL)."""

    def init(self, key: Array) -> PyTree:
        """The first weight."""
        return jnp.asarray(self.adaptive_entropy_weight, jnp.float32)

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Finds the weight of the entropy, the same at every token [N, T], and moves it for the next step."""
        target = self.adaptive_entropy_target
        mean = step_entropy(work, target, None if work.kept is None else work.mask & (work.kept > 0))
        weight = jnp.where(mean <= target, state, 0.0)
        moved = losses.stepped_weight(state, mean, target, self.adaptive_entropy_step, self.adaptive_entropy_most)
        work = work.measure(**{"entropy/weight": weight})
        return moved, work.replace(found=jnp.broadcast_to(weight, work.mask.shape))

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds the bonus."""
        assert work.found is not None
        return state, with_bonus(work, work.found, self.adaptive_entropy_average)


def step_entropy(work: Work, otherwise: Array | float, mask: Array | None = None) -> Array:
    """[] the mean entropy over the tokens of a step, or over those of a mask [N, T]; `otherwise` where there are none.

    Constant.
    """
    assert work.outputs.entropy is not None
    mask = work.mask if mask is None else mask
    mean = jax.lax.stop_gradient(losses.masked_mean(work.outputs.entropy, mask))
    return jnp.where(jnp.any(mask), mean, otherwise)


@struct.dataclass
class UncertainTokens(Regulariser):
    """Keeps the policy loss of the most uncertain tokens alone; its denominators count all (TRL's `top_entropy_quantile`)."""

    needs: ClassVar[tuple[str, ...]] = ("entropy",)
    top_entropy_share: Fraction = 0.2
    """Share of tokens that are kept, by entropy."""

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Finds the most uncertain tokens of the step, and by how much each counts where only those do [N, T]."""
        entropy, mask = work.outputs.entropy, work.mask
        assert entropy is not None
        least = losses.masked_quantile(entropy, mask, 1.0 - self.top_entropy_share)
        kept = mask & (entropy >= least - losses.rounding_of(least))  # as uncertain as the last one, to the bit or not
        share = jnp.sum(mask) / jnp.maximum(jnp.sum(kept), 1)
        return state, work.replace(found=jnp.where(kept, share, 0.0))

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Zeroes the loss of the others, and says how much those that are kept count."""
        assert work.found is not None
        return state, work.replace(loss=jnp.where(work.found > 0, work.loss, 0.0), kept=work.found)
