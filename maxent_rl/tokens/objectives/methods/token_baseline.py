"""A baseline for each place of a response.

Source: verl's optimal_token_baseline.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import AdvantageStage, returns_to_go
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.objectives.stage import Preset, Statistic
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree

COLLISION = "collision"
"""The statistic that it asks for: the sum of all tokens' squared probabilities."""


@struct.dataclass
class OptimalTokenBaseline(AdvantageStage):
    """Rewards against a mean of the group's at each place, weighed by how much gradient each response has had until there.

    The squared length of a token's gradient in the logits, `1 - 2 pi + sum of pi^2`, stands for that of the parameters.
    Source: verl's optimal_token_baseline.
    """

    def statistics(self, state: PyTree) -> dict[str, Statistic]:
        """The sum of squared probabilities."""
        return {COLLISION: lambda log_probs, tokens: jnp.sum(jnp.exp(2.0 * log_probs), axis=-1)}

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N, T]."""
        groups, mask = Grouping.of(batch), batch.mask & batch.scored[:, None]
        squares = 1.0 - 2.0 * jnp.exp(batch.logp_old) + batch.statistics[COLLISION]
        weight = jnp.cumsum(jnp.where(mask, jnp.maximum(squares, 0.0), 0.0), axis=-1)
        weight = jnp.where(mask, weight, 0.0)
        returns = jnp.where(mask, returns_to_go(batch, 1.0), 0.0)
        # By place in the response, not in the row: what stands before it may differ.
        place = jnp.where(mask, jnp.cumsum(mask, axis=-1) - 1, mask.shape[1])
        slot = groups.group[:, None] * (mask.shape[1] + 1) + place
        slots = (mask.shape[0] + 1) * (mask.shape[1] + 1)

        def at_place(values: Array) -> Array:
            return jax.ops.segment_sum(values.ravel(), slot.ravel(), slots)[slot]

        highest = groups.largest(jnp.where(groups.valid, batch.outcomes, 0.0))[:, None]
        below = jnp.where(mask, returns - highest, 0.0)
        baseline = at_place(weight * below) / jnp.maximum(at_place(weight), 1e-8)
        alone = (groups.size == 1)[:, None]
        found = jnp.where(alone, returns, losses.without_rounding(below - baseline, jnp.abs(highest)))
        return state, dataclasses.replace(batch, advantages=jnp.where(mask, found, 0.0))


PRESETS: dict[str, Preset] = {
    "token_baseline": Preset(
        "a baseline for each place, weighed by how much gradient was there",
        "verl's optimal_token_baseline",
        (OptimalTokenBaseline(), Clipped(), Aggregate()),
    ),
}

# What verl calls what it needs.
ELSEWHERE: dict[str, str] = {"sum_pi_squared": "a statistic of token_baseline (objective.statistics)"}
