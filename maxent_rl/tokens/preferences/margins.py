"""Losses on pairs by other margins than DPO's; the formulas are those of `losses.preference_rewards`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, TypeAlias

import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.losses.preference_rewards import DivergenceName
from maxent_rl.settings import Finite, Fraction, Interval, Positive, static
from maxent_rl.tokens.batch import TokenOutputs
from maxent_rl.tokens.preferences.batch import Pairs, PreferenceAux, PreferenceBatch, margin_of
from maxent_rl.tokens.preferences.losses import DPO, PairLoss, SimPO

Inside: TypeAlias = Annotated[float, Interval(0, 1, low_open=True, high_open=True)]


@struct.dataclass
class DivergenceDPO(PairLoss):
    """DPO where another divergence holds the policy at the reference (`losses.divergence_reward`)."""

    beta: Positive = 0.1
    """As for dpo."""
    alpha: Inside = 0.5
    """Of the divergence alpha: near 0 it is the reverse, near 1 the forward one."""
    divergence: DivergenceName = static("jensen_shannon")
    """reverse_kl is dpo."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return losses.dpo_loss(margin_of(self._rewards(pairs)), self.beta)

    def rewards(self, pairs: Pairs) -> Array:
        """The implicit rewards [B, 2]."""
        return losses.implicit_reward(self._rewards(pairs), 0.0, self.beta)

    def _rewards(self, pairs: Pairs) -> Array:
        return losses.divergence_reward(pairs.ratio, self.divergence, self.alpha)


@struct.dataclass
class DiscoPOP(PairLoss):
    """Logistic where a pair is ordered wrongly, exponential where rightly (`losses.discopop_loss`)."""

    beta: Positive = 0.05
    """As for dpo."""
    tau: Positive = 0.05
    """How sharp the blend of both is."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return losses.discopop_loss(pairs.margin, self.beta, self.tau)


@struct.dataclass
class WPO(DPO):
    """DPO whose pairs weigh as much as they are like the policy's own responses (`losses.on_policy_weight`).

    Without the paper's alignment of weights, which asks for the whole vocabulary's probabilities: a long response of a broad
    policy weighs little.
    """

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        weight = losses.on_policy_weight(pairs.mean_log_prob[:, 0], pairs.mean_log_prob[:, 1])
        return weight * super().of_pairs(pairs)


@struct.dataclass
class LengthDesensitisedDPO(DPO):
    """LD-DPO: of the longer response, tokens beyond the length of the shorter one count for a share.

    Source: Length Desensitization in Direct Preference Optimization (arXiv 2409.06411). Policy and reference are weighed
    alike, so that where they agree every margin is 0.
    """

    tail_weight: Fraction = 0.5
    """Share of the tokens beyond (alpha of the paper); 1 is dpo, 0 leaves them out."""

    def __call__(
        self, outputs: ArrayLike | TokenOutputs, batch: PreferenceBatch, mismatched_logp: ArrayLike | None = None
    ) -> tuple[Array, PreferenceAux]:
        """The loss of each pair: see `preference_loss`."""
        mask = jnp.asarray(batch.mask)
        if mask.ndim == 2 and len(mask) % 2 == 0:  # else refused below, in words
            there = mask.astype(bool)
            place, lengths = jnp.cumsum(there, axis=-1), jnp.sum(there, axis=-1).reshape(-1, 2)
            common = jnp.repeat(jnp.min(lengths, axis=-1), 2)[:, None]
            weight = jnp.where(place <= common, 1.0, jnp.asarray(self.tail_weight))
            logp = jnp.asarray(outputs.logp if isinstance(outputs, TokenOutputs) else outputs)
            if logp.shape == weight.shape:
                outputs = _weighed(losses.at_least_single(logp), weight)
            if batch.logp_ref is not None and jnp.shape(batch.logp_ref) == weight.shape:
                reference = _weighed(losses.at_least_single(batch.logp_ref), weight)
                batch = dataclasses.replace(batch, logp_ref=reference)
        return super().__call__(outputs, batch, mismatched_logp)


@struct.dataclass
class AlphaPO(SimPO):
    """SimPO with a reward that bends with the likelihood (`losses.alpha_reward`)."""

    alpha: Finite = 0.25
    """Shape of the reward; 0 is simpo."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return losses.simpo_loss(margin_of(losses.alpha_reward(pairs.mean_log_prob, self.alpha)), self.beta, self.gap)

    def rewards(self, pairs: Pairs) -> Array:
        """The implicit rewards [B, 2]."""
        return losses.implicit_reward(losses.alpha_reward(pairs.mean_log_prob, self.alpha), 0.0, self.beta)


def _weighed(logp: Array, weight: Array) -> Array:
    """Weighed log-probabilities; what has no weight is 0 even where it is infinite."""
    return jnp.where(weight > 0, jnp.where(weight > 0, logp, 0.0) * weight, 0.0)
