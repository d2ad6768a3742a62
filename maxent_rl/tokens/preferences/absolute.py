"""Losses on pairs that look at each response's own ratio to the reference; the formulas are `losses.absolute_preference`."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.errors import MissingInputError
from maxent_rl.settings import Fraction, Positive, static
from maxent_rl.tokens.preferences.batch import Pairs
from maxent_rl.tokens.preferences.losses import PairLoss


@struct.dataclass
class NCA(PairLoss):
    """Each response is told from noise, so that the chosen one's likelihood does not fall (`losses.nca_loss`)."""

    beta: Positive = 0.1
    """As for dpo."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return losses.nca_loss(pairs.ratio[:, 0], pairs.ratio[:, 1], self.beta)


@struct.dataclass
class BCO(PairLoss):
    """A binary classifier of chosen and rejected responses (`losses.bco_loss`)."""

    beta: Positive = 0.1
    """As for dpo."""
    reward_shift: Literal["none", "batch"] = static("none")
    """What is taken off all rewards: nothing (TRL's bco_pair), or their mean over the batch's pairs (the paper's, which keeps
    a running mean). With it, a pair's loss depends on the pairs beside it."""

    @property
    def whole_batch(self) -> bool:
        """Whether rewards are shifted by their mean."""
        return self.reward_shift == "batch"

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        shift: Array | float = 0.0
        if self.reward_shift == "batch":
            shift = losses.masked_mean(jnp.asarray(self.beta) * jnp.mean(pairs.ratio, axis=-1), pairs.counts)
        return losses.bco_loss(pairs.ratio[:, 0], pairs.ratio[:, 1], self.beta, shift)


@struct.dataclass
class SPPO(PairLoss):
    """Each log-ratio is brought to how often its response wins, over beta (`losses.sppo_loss`)."""

    beta: Positive = 0.1
    """The larger, the nearer the policy stays to the reference (1 / eta of the paper)."""
    soft: bool = static(False)
    """Take the batch's `target` for how often the chosen response wins, as the paper does; else always."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        if self.soft and pairs.target is None:
            raise MissingInputError("SPPO with soft=True needs target: pass PreferenceBatch(target=[B]).")
        target = pairs.target if self.soft and pairs.target is not None else 1.0
        return losses.sppo_loss(pairs.ratio[:, 0], pairs.ratio[:, 1], self.beta, target)


@struct.dataclass
class APOZero(PairLoss):
    """The chosen response rises, the rejected one falls: where chosen ones are the better (`losses.apo_zero_loss`)."""

    beta: Positive = 0.1
    """As for dpo."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return losses.apo_zero_loss(pairs.ratio[:, 0], pairs.ratio[:, 1], self.beta)


@struct.dataclass
class APODown(PairLoss):
    """Both fall, the rejected one further: where the policy's are better than the chosen ones (`losses.apo_down_loss`)."""

    beta: Positive = 0.1
    """As for dpo."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return losses.apo_down_loss(pairs.ratio[:, 0], pairs.ratio[:, 1], self.beta)


@struct.dataclass
class TransportedPair(PairLoss):
    """AOT: the distribution of margins is to dominate the reference's, rank by rank (`losses.sorted_margin`).

    All pairs of a batch belong together: a loss is not the mean of those of its parts.
    """

    beta: Positive = 0.1
    """As for dpo."""
    flip_probability: Fraction = 0.0
    """Share of labels that may be wrong."""

    @property
    def whole_batch(self) -> bool:
        """It does: it compares by ranks."""
        return True

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B], that of a pair at the rank of its margin."""
        reference = pairs.log_prob - pairs.ratio
        policy = pairs.log_prob[:, 0] - pairs.log_prob[:, 1]
        margin = losses.sorted_margin(policy, reference[:, 0] - reference[:, 1], pairs.counts)
        return losses.dpo_loss(margin, self.beta, 1.0 - jnp.asarray(self.flip_probability))


@struct.dataclass
class Transported(PairLoss):
    """AOT without pairs: the distribution of the chosen responses' ratios is to dominate that of the rejected ones'.

    All responses of a batch belong together: a loss is not the mean of those of its parts.
    """

    beta: Positive = 0.1
    """As for dpo."""
    flip_probability: Fraction = 0.0
    """Share of labels that may be wrong."""

    @property
    def whole_batch(self) -> bool:
        """It does: it compares by ranks."""
        return True

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B], that of a chosen response and the rejected one of its rank."""
        margin = losses.sorted_margin(pairs.ratio[:, 0], pairs.ratio[:, 1], pairs.counts)
        return losses.dpo_loss(margin, self.beta, 1.0 - jnp.asarray(self.flip_probability))
