"""Hard prompts weigh more, as in maximum likelihood.

Source: MaxRL (arXiv 2602.02710).
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
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree


@struct.dataclass
class OverMean(AdvantageStage):
    """Rewards against the group's mean, in units of that mean: hard prompts weigh more, as in maximum likelihood (MaxRL).

    Source: arXiv 2602.02710; for rewards of at least 0.
    """

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N]; 0 where the mean is not positive."""
        groups, below = differences(batch)
        centred = as_advantages(batch, groups, below - groups.mean(below))
        mean = groups.mean(jnp.where(groups.valid, batch.outcomes, 0.0))
        unit = jnp.where(groups.size == 1, 1.0, mean)  # a response that is alone keeps its reward
        found = jnp.where(unit > 0, centred / jnp.where(unit > 0, unit, 1.0), 0.0)
        return state, dataclasses.replace(batch, advantages=found)


PRESETS: dict[str, Preset] = {
    "maxrl": Preset(
        "rewards against the group's mean, in units of it",
        "MaxRL, arXiv 2602.02710",
        (OverMean(), Clipped(), Aggregate()),
    ),
}
