"""Plain policy gradient, scaled up where few responses have a reward.

Source: GPG (arXiv 2504.02546).
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.settings import Positive
from maxent_rl.tokens.batch import TokenBatch, responses
from maxent_rl.tokens.objectives.advantages import AdvantageStage, by_group
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
        rewards = by_group(batch)
        there = responses(batch)
        nonzero = jnp.sum(there & (rewards.ravel() != 0))
        factor = jnp.sum(there) / jnp.maximum(nonzero, 1) / self.gpg_normalizer
        found = factor * losses.group_advantages(rewards, "none")
        return state, dataclasses.replace(batch, advantages=found.reshape(-1))


PRESETS: dict[str, Preset] = {
    "gpg": Preset(
        "plain policy gradient, scaled up where few responses have a reward",
        "GPG, arXiv 2504.02546",
        (NonzeroScale(), LogProbability(), Aggregate()),
    ),
}
