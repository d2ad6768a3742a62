"""The policy's most likely response as baseline.

Source: ReMax (arXiv 2310.10505).
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from flax import struct

from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import AdvantageStage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import LogProbability
from maxent_rl.types import PyTree


@struct.dataclass
class GreedyBaseline(AdvantageStage):
    """Rewards against that of the policy's most likely response to the same prompt (ReMax).

    Source: arXiv 2310.10505.
    """

    needs: ClassVar[tuple[str, ...]] = ("greedy_rewards",)

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N]; 0 where either reward is missing."""
        assert batch.greedy_rewards is not None
        greedy = jnp.asarray(batch.greedy_rewards, jnp.float32)
        both = batch.scored & jnp.isfinite(greedy)
        difference = jnp.where(both, batch.outcomes, 0.0) - jnp.where(both, greedy, 0.0)
        return state, dataclasses.replace(batch, advantages=difference)


PRESETS: dict[str, Preset] = {
    "remax": Preset(
        "rewards against that of the most likely response",
        "ReMax, arXiv 2310.10505",
        (GreedyBaseline(), LogProbability(), Aggregate()),
    ),
}

# What verl calls what it needs.
ELSEWHERE: dict[str, str] = {"reward_baselines": "greedy_rewards of the batch"}
