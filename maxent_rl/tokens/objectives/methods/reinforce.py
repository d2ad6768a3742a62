"""Plain policy gradient against a baseline.

Source: Simple statistical gradient-following algorithms, R. J. Williams, 1992.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.settings import Finite
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import AdvantageStage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import LogProbability
from maxent_rl.types import PyTree


@struct.dataclass
class Baseline(AdvantageStage):
    """Rewards less a baseline (REINFORCE): the batch's mean, or a fixed number."""

    baseline: Finite | None = None
    """What is subtracted from every reward; None for the mean of the batch."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N]."""
        rewards, scored = batch.outcomes, batch.scored
        if self.baseline is None:
            advantages = losses.masked_deviation(rewards, scored)  # 0 where only rounding differs
        else:
            advantages = jnp.where(scored, rewards - self.baseline, 0.0)
        return state, dataclasses.replace(batch, advantages=advantages)


PRESETS: dict[str, Preset] = {
    "reinforce": Preset(
        "plain policy gradient against the mean reward of the batch",
        "Simple statistical gradient-following algorithms, R. J. Williams, 1992",
        (Baseline(), LogProbability(), Aggregate()),
    ),
}
