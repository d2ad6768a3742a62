"""Plain policy gradient, scaled up where few responses have a reward.

Source: GPG (arXiv 2504.02546).
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from flax import struct

from maxent_rl.settings import Positive
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import AdvantageStage, relative_rewards
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import LogProbability
from maxent_rl.types import PyTree


@struct.dataclass
class NonzeroScale(AdvantageStage):
    """Rewards less their group's mean, scaled up by the share of responses without reward (GPG).

    Source: GPG (arXiv 2504.02546), in the form of the sheet: `N / max(number of nonzero rewards, 1)`.
    """

    gpg_normalizer: Positive = 1.0
    """What the advantages are divided by."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N]."""
        scored = batch.scored
        rewarded = jnp.sum(scored & (batch.outcomes != 0))
        factor = jnp.sum(scored) / jnp.maximum(rewarded, 1) / self.gpg_normalizer
        return state, dataclasses.replace(batch, advantages=factor * relative_rewards(batch))


PRESETS: dict[str, Preset] = {
    "gpg": Preset(
        "plain policy gradient, scaled up where few responses have a reward",
        "GPG, arXiv 2504.02546",
        (NonzeroScale(), LogProbability(), Aggregate()),
    ),
}
