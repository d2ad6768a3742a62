"""Regulariser stages that any objective can have: divergence from a reference, entropy bonus, only uncertain tokens."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.losses.divergence import KLEstimator
from maxent_rl.settings import Finite, Fraction, Positive, Weight, static
from maxent_rl.tokens.objectives.stage import Slot, Stage, Work
from maxent_rl.types import PyTree


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
        assert work.batch.logp_ref is not None
        divergence = losses.kl_estimate(work.outputs.logp, work.batch.logp_ref, self.kl_estimator, self.kl_largest)
        if self.kl_unbiased:
            divergence = divergence * work.ratio
        if work.kl_weight is not None:
            divergence = work.kl_weight * divergence
        return state, work.replace(penalty=work.penalty + self.kl_weight * divergence)


@struct.dataclass
class EntropyBonus(Regulariser):
    """Rewards entropy with a fixed weight, averaged as the loss is.

    After `UncertainTokens` it is the entropy of the tokens alone that those keep, and their mean (as in TRL).
    """

    needs: ClassVar[tuple[str, ...]] = ("entropy",)
    entropy_bonus: Finite = 0.01
    """Weight of the entropy, in advantage per nat; a negative one lowers entropy."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds to the penalty [N, T]."""
        assert work.outputs.entropy is not None
        bonus = self.entropy_bonus * work.outputs.entropy
        return state, work.replace(penalty=work.penalty - (bonus if work.kept is None else work.kept * bonus))


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
