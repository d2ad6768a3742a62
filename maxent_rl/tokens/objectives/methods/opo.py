"""A baseline weighed by length.

Source: OPO (arXiv 2505.23585).
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from flax import struct

from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import AdvantageStage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.grouping import as_advantages, differences
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import LogProbability
from maxent_rl.types import PyTree


@struct.dataclass
class LengthBaseline(AdvantageStage):
    """Rewards against the group's mean weighed by length, which has the least variance if gradients are as long as responses.

    Source: OPO, arXiv 2505.23585, whose own updates are on-policy, without a clip.
    """

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N]."""
        groups, below = differences(batch)
        lengths = jnp.sum(batch.mask, axis=-1)
        baseline = groups.total(lengths * below) / jnp.maximum(groups.total(lengths), 1)
        return state, dataclasses.replace(batch, advantages=as_advantages(batch, groups, below - baseline))


PRESETS: dict[str, Preset] = {
    "opo": Preset(
        "rewards against the group's mean weighed by length",
        "OPO, arXiv 2505.23585",
        (LengthBaseline(), LogProbability(), Aggregate("seq-mean-token-sum-norm")),
    ),
}
