"""Only the best response of a group learns.

Source: verl's grpo_passk.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from flax import struct

from maxent_rl.settings import Positive, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import AdvantageStage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.grouping import as_advantages, differences
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree


@struct.dataclass
class BestOfGroup(AdvantageStage):
    """Only the best response of a group learns, by how far it is ahead of the second (verl's grpo_passk)."""

    best_scaled: bool = static(True)
    """Divide by the group's standard deviation."""
    best_epsilon: Positive = 1e-6
    """Added to it."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N]; of equally good ones the lead is 0."""
        groups, below = differences(batch)
        place = groups.place(-below)
        second = groups.total(jnp.where(place == 1, below, 0.0))
        lead = jnp.where((place == 0) & (groups.size > 1), below - second, 0.0)
        if self.best_scaled:
            lead = lead / (groups.deviation(batch.outcomes) + self.best_epsilon)
        return state, dataclasses.replace(batch, advantages=as_advantages(batch, groups, lead))


PRESETS: dict[str, Preset] = {
    "best_of_group": Preset(
        "only the best response of a group learns, by its lead",
        "verl's grpo_passk",
        (BestOfGroup(), Clipped(), Aggregate()),
    ),
}
