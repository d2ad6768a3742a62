"""The losses of `preferences`, each with its hyper-parameters; the formulas are those of `losses.preference`."""

from __future__ import annotations

import abc
from typing import Annotated, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.errors import MissingInputError, ShapeError
from maxent_rl.settings import Finite, Fraction, Interval, Positive, Settings, Weight, static
from maxent_rl.tokens.batch import TokenOutputs
from maxent_rl.tokens.preferences.batch import (
    Average,
    Pairs,
    PreferenceAux,
    PreferenceBatch,
    likelihood_metrics,
    margin_of,
    pair_metrics,
    responses,
)

Flips: TypeAlias = Annotated[float, Interval(0, 0.5, high_open=True)]
Epsilon: TypeAlias = Annotated[float, Interval(0, 0.5, low_open=True, high_open=True)]


class PreferenceLoss(Settings, abc.ABC):
    """A loss on preferences; subclasses are `flax.struct` dataclasses of hyper-parameters."""

    @property
    def title(self) -> str:
        """Its name in messages."""
        return type(self).__name__

    @property
    def whole_batch(self) -> bool:
        """Whether a value depends on the pairs beside it, so that the loss is not the mean over parts of a batch.

        Its slope in the log-probabilities, which takes all of them, then goes into each part: docs/tokens.md.
        """
        return getattr(self, "likelihood_average", None) == "batch"

    @abc.abstractmethod
    def __call__(
        self, outputs: ArrayLike | TokenOutputs, batch: PreferenceBatch, mismatched_logp: ArrayLike | None = None
    ) -> tuple[Array, PreferenceAux]:
        """The loss of each pair or response: see `preference_loss`."""


class PairLoss(PreferenceLoss):
    """A loss on pairs of a chosen and a rejected response.

    Attributes:
      reference: whether it needs the log-probabilities under the reference.
    """

    reference: ClassVar[bool] = True

    @abc.abstractmethod
    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B] of each pair."""

    def rewards(self, pairs: Pairs) -> Array:
        """The implicit rewards [B, 2]."""
        of = pairs.ratio if self.reference else pairs.log_prob
        return losses.implicit_reward(of, 0.0, getattr(self, "beta", 1.0))

    def __call__(
        self, outputs: ArrayLike | TokenOutputs, batch: PreferenceBatch, mismatched_logp: ArrayLike | None = None
    ) -> tuple[Array, PreferenceAux]:
        """The loss of each pair: see `preference_loss`."""
        found = responses(outputs, batch, self.title, self.reference)
        if len(found.lengths) % 2:
            raise ShapeError(f"{len(found.lengths)} rows are no pairs: give chosen and rejected responses in turn.")
        if batch.target is not None and jnp.shape(batch.target) != (len(found.lengths) // 2,):
            raise ShapeError(f"target must have shape {(len(found.lengths) // 2,)}; got {jnp.shape(batch.target)}.")
        there = found.counts.reshape(-1, 2)
        counts = jnp.all(there, axis=-1)
        pairs = Pairs(
            found.log_prob.reshape(-1, 2),
            None if found.log_ratio is None else found.log_ratio.reshape(-1, 2),
            jnp.maximum(found.lengths.reshape(-1, 2), 1),
            batch.target,
            counts,
        )
        loss = jnp.where(counts, self.of_pairs(pairs), 0.0)
        rewards = jax.lax.stop_gradient(jnp.where(there, self.rewards(pairs), 0.0))
        metrics = pair_metrics(rewards, counts) | likelihood_metrics(pairs.log_prob, pairs.log_ratio, counts)
        metrics |= {"preference/loss": losses.masked_mean(loss, counts)}
        return loss, PreferenceAux(jax.lax.stop_gradient(metrics), counts, rewards)


@struct.dataclass
class DPO(PairLoss):
    """Logistic regression on which response is the better (`losses.dpo_loss`)."""

    beta: Positive = 0.1
    """The larger, the nearer the policy stays to the reference."""
    length_average: bool = static(False)
    """Take log-ratios per token (TRL's sigmoid_norm); the paper's are sums."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return losses.dpo_loss(pairs.margin_by(self.length_average), self.beta)


@struct.dataclass
class ConservativeDPO(PairLoss):
    """DPO with smoothed labels: margins stop growing at `log((1 - eps) / eps) / beta`."""

    beta: Positive = 0.1
    """As for dpo."""
    flip_probability: Fraction = 0.1
    """eps, the share of labels that may be wrong; 0 is dpo."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return losses.dpo_loss(pairs.margin, self.beta, 1.0 - jnp.asarray(self.flip_probability))


@struct.dataclass
class SoftDPO(PairLoss):
    """DPO with the probability that the chosen response is the better one, for all pairs or for each."""

    beta: Positive = 0.1
    """As for dpo."""
    target: Fraction | None = None
    """That probability; None for the batch's."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        target = pairs.target if self.target is None else self.target
        if target is None:
            raise MissingInputError(
                "SoftDPO needs target: pass PreferenceBatch(target=[B]), or set target for all pairs."
            )
        return losses.dpo_loss(pairs.margin, self.beta, target)


@struct.dataclass
class RobustDPO(PairLoss):
    """DPO whose mean over flipped labels is the loss of the clean ones (`losses.robust_dpo_loss`)."""

    beta: Positive = 0.1
    """As for dpo."""
    flip_probability: Flips = 0.1
    """eps, the share of labels that are wrong; 0 is dpo."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return losses.robust_dpo_loss(pairs.margin, self.beta, self.flip_probability)


@struct.dataclass
class IPO(PairLoss):
    """The squared distance of the margin from `1 / (2 beta)` (`losses.ipo_loss`)."""

    beta: Positive = 0.1
    """The larger, the nearer the policy stays to the reference."""
    length_average: bool = static(False)
    """Take log-probabilities per token, as the common code does; the paper's are sums."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return losses.ipo_loss(pairs.margin_by(self.length_average), self.beta)


@struct.dataclass
class Hinge(PairLoss):
    """`max(0, 1 - beta margin)`, SLiC with a reference (`losses.hinge_loss`)."""

    beta: Positive = 0.1
    """As for dpo."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return losses.hinge_loss(pairs.margin, self.beta)


@struct.dataclass
class EXO(PairLoss):
    """The divergence of the policy's preference from a smoothed label (`losses.exo_loss`)."""

    beta: Positive = 0.1
    """As for dpo."""
    epsilon: Epsilon = static(1e-3)
    """Share of the label that goes to the rejected response."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return losses.exo_loss(pairs.margin, self.beta, self.epsilon)


@struct.dataclass
class RPO(PairLoss):
    """DPO and, besides, the likelihood per token of the chosen response (`losses.rpo_loss`)."""

    beta: Positive = 0.1
    """As for dpo."""
    likelihood_weight: Weight = 1.0
    """Weight of the likelihood."""
    likelihood_average: Average = static("response")
    """The mean over the tokens of each response, as in the paper, so that a pair's loss does not depend on the pairs beside
    it; batch: over all chosen tokens of the batch (TRL's loss type ["sigmoid", "sft"]); none: the sum."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        likelihood = pairs.likelihood(self.likelihood_average)
        return losses.rpo_loss(pairs.margin, likelihood, self.beta, self.likelihood_weight)


@struct.dataclass
class AnchoredPair(PairLoss):
    """ADPO's pairwise loss with the reference as anchor: dpo where tau is `1 / beta` and labels are hard."""

    anchor_temperature: Positive = 0.8
    """tau: the smaller, the nearer the policy stays to the reference."""
    reward_temperature: Positive | None = None
    """Soft labels `sigmoid(1 / reward_temperature)`, as for rewards of 1 and 0; None for hard ones."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        logits = losses.anchored_logits(pairs.ratio, 0.0, self.anchor_temperature)
        return losses.anchored_pair_loss(logits, jnp.array([1.0, 0.0]), self.reward_temperature)[0][:, 0]

    def rewards(self, pairs: Pairs) -> Array:
        """The anchored logits [B, 2]."""
        return losses.anchored_logits(pairs.ratio, 0.0, self.anchor_temperature)


@struct.dataclass
class SimPO(PairLoss):
    """DPO without a reference, per token, with a gap (`losses.simpo_loss`)."""

    reference: ClassVar[bool] = False
    beta: Positive = 2.0
    """Scale of the margin; 2 to 2.5 in the paper."""
    gap: Finite = 1.0
    """gamma, by how much the chosen response must win; 0.5 to 1.6 in the paper."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return losses.simpo_loss(margin_of(pairs.mean_log_prob), self.beta, self.gap)

    def rewards(self, pairs: Pairs) -> Array:
        """The implicit rewards [B, 2], per token."""
        return losses.implicit_reward(pairs.mean_log_prob, 0.0, self.beta)


@struct.dataclass
class ORPO(PairLoss):
    """Likelihood of the chosen response and a logistic loss on the ratio of odds (`losses.orpo_loss`)."""

    reference: ClassVar[bool] = False
    odds_weight: Weight = 0.1
    """lambda, weight of the ratio of odds."""
    likelihood_average: Average = static("response")
    """The mean over the tokens of each response, of which the paper's odds are, too; batch: over all chosen tokens of the
    batch (TRL's; earlier releases of it count the prompts' too); none: the sum."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        likelihood = pairs.likelihood(self.likelihood_average)
        return losses.orpo_loss(pairs.mean_log_prob[:, 0], pairs.mean_log_prob[:, 1], self.odds_weight, likelihood)

    def rewards(self, pairs: Pairs) -> Array:
        """Log-probabilities per token [B, 2]."""
        return pairs.mean_log_prob


@struct.dataclass
class CPO(PairLoss):
    """DPO without a reference and, besides, the likelihood of the chosen response (`losses.cpo_loss`)."""

    reference: ClassVar[bool] = False
    beta: Positive = 0.1
    """Scale of the margin."""
    likelihood_weight: Weight = 1.0
    """Weight of the likelihood; 1 in the paper."""
    likelihood_average: Average = static("none")
    """The sum over the tokens of each response, as in the paper; batch: the mean over all chosen tokens of the batch (TRL's);
    response: over those of each response."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        likelihood = pairs.likelihood(self.likelihood_average)
        return losses.cpo_loss(
            pairs.log_prob[:, 0], pairs.log_prob[:, 1], self.beta, self.likelihood_weight, likelihood
        )


@struct.dataclass
class KTO(PreferenceLoss):
    """Responses that are each good or bad, without pairs (`losses.kto_loss`): one loss for each response.

    The baseline comes from responses after prompts that are not theirs: score `mismatched(responses)` with policy and
    reference, and pass both.
    """

    beta: Positive = 0.1
    """As for dpo."""
    desirable_weight: Weight = 1.0
    """Weight of good responses; times their number, 1 to 4/3 times that of the bad ones."""
    undesirable_weight: Weight = 1.0
    """Weight of bad responses."""

    @property
    def whole_batch(self) -> bool:
        """It does: the baseline is a mean over the batch."""
        return True

    def __call__(
        self, outputs: ArrayLike | TokenOutputs, batch: PreferenceBatch, mismatched_logp: ArrayLike | None = None
    ) -> tuple[Array, PreferenceAux]:
        """The loss [2B] of each response: see `preference_loss`."""
        found = responses(outputs, batch, self.title)
        ratio, counts = found.log_ratio, found.counts
        assert ratio is not None
        if batch.desirable is None and len(counts) % 2:
            raise ShapeError(f"{len(counts)} rows are no pairs: pass PreferenceBatch(desirable=[{len(counts)}]).")
        good = jnp.arange(len(counts)) % 2 == 0 if batch.desirable is None else jnp.asarray(batch.desirable, bool)
        baseline = self._baseline(mismatched_logp, batch)
        loss = losses.kto_loss(ratio, good, baseline, self.beta, self.desirable_weight, self.undesirable_weight)
        loss = jnp.where(counts, loss, 0.0)
        rewards = jnp.where(counts, losses.implicit_reward(ratio, 0.0, self.beta), 0.0)
        metrics = {"preference/loss": losses.masked_mean(loss, counts), "preference/baseline": baseline}
        for kind, rows in (("chosen", good & counts), ("rejected", ~good & counts)):
            metrics[f"preference/reward_{kind}"] = losses.masked_mean(rewards, rows)
            metrics[f"preference/logp_{kind}"] = losses.masked_mean(found.log_prob, rows)
            metrics[f"preference/displacement_{kind}"] = losses.masked_mean(ratio, rows)
        if batch.desirable is None:
            both = jnp.all(counts.reshape(-1, 2), axis=-1)
            metrics = pair_metrics(rewards.reshape(-1, 2), both) | metrics
        return loss, PreferenceAux(jax.lax.stop_gradient(metrics), counts, jax.lax.stop_gradient(rewards))

    def _baseline(self, logp: ArrayLike | None, batch: PreferenceBatch) -> Array:
        if logp is None or batch.mismatched_mask is None or batch.mismatched_logp_ref is None:
            raise MissingInputError(
                "KTO needs responses to other prompts: score mismatched(responses) with policy and reference, and pass "
                "preference_loss(..., mismatched_logp=[N, T]) and PreferenceBatch(mismatched_mask, mismatched_logp_ref)."
            )
        other = PreferenceBatch(batch.mismatched_mask, batch.mismatched_logp_ref)
        found = responses(jax.lax.stop_gradient(jnp.asarray(logp)), other, self.title)
        assert found.log_ratio is not None
        return losses.kto_baseline(found.log_ratio, found.counts)
