"""Several rewards, each normalised before they are summed.

Source: GDPO (arXiv 2601.05242).
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.errors import ShapeError
from maxent_rl.settings import Positive, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import AdvantageStage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.grouping import as_advantages, differences
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree


@struct.dataclass
class PartAdvantages(AdvantageStage):
    """Several rewards, each normalised in its group before they are summed, and the sum normalised over the batch (GDPO).

    Summed first, the one with the largest spread would decide alone. verl normalises the sum over tokens, so that long
    responses count for more in its mean and deviation, and TRL's `normalize_then_sum` over responses.

    Source: arXiv 2601.05242, whose batch-wise normalisation is over responses.
    """

    needs: ClassVar[tuple[str, ...]] = ("reward_parts",)
    part_weights: tuple[float, ...] | None = None
    """Weight of each reward; None for 1."""
    part_epsilon: Positive = 1e-4
    """Added to each standard deviation."""
    normalise_sum: Literal["tokens", "responses", "none"] = static("tokens")
    """What the sum is normalised over: all tokens of the batch (verl), its responses (TRL), or not at all."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N] or [N, T]; a reward that is not finite counts for nobody."""
        parts = jnp.asarray(batch.reward_parts, jnp.float32)
        weights = (1.0,) * parts.shape[1] if self.part_weights is None else self.part_weights
        if len(weights) != parts.shape[1]:
            raise ShapeError(f"reward_parts has {parts.shape[1]} rewards, and part_weights {len(weights)}.")
        total = jnp.zeros(parts.shape[0])
        for number, weight in enumerate(weights):
            # A batch whose outcome is that one reward: one that is not finite is compared with nothing.
            there = jnp.isfinite(parts[:, number]) & batch.scored
            alone = dataclasses.replace(batch, rewards=jnp.where(there, parts[:, number], jnp.nan), token_rewards=None)
            groups, below = differences(alone)
            centred = as_advantages(alone, groups, below - groups.mean(below))
            total = total + weight * centred / (groups.deviation(alone.outcomes) + self.part_epsilon)
        if self.normalise_sum == "tokens":
            scored = batch.mask & batch.scored[:, None]
            total = losses.whiten(jnp.broadcast_to(total[:, None], batch.mask.shape), scored)
        elif self.normalise_sum == "responses":
            below = losses.masked_deviation(total, batch.scored)
            variance = jnp.sum(below**2) / jnp.maximum(jnp.sum(batch.scored) - 1, 1)
            total = below / (jnp.sqrt(variance) + self.part_epsilon)
        return state, dataclasses.replace(batch, advantages=total)


PRESETS: dict[str, Preset] = {
    "gdpo": Preset(
        "several rewards, each normalised before they are summed",
        "GDPO, arXiv 2601.05242",
        (PartAdvantages(), Clipped(), Aggregate()),
    ),
}

# What TRL calls the same thing.
ELSEWHERE: dict[str, str] = {
    "multi_objective_aggregation": "the objective gdpo (normalize_then_sum), with reward_parts of the batch",
    "reward_weights": "part_weights, of gdpo",
}
