"""Turn-level PPO: a turn is one action, and the critic says what is to be expected before each turn, not before each token.

The advantages are generalized ones over turns, each token has that of its turn, and the critic learns from the first tokens
of turns alone: what it says within a turn means nothing.

Source: Turn-PPO (arXiv 2512.17008), as public summaries quote it: states are all that stands before a turn, discount 0.99 and
lambda 0.9. How the paper forms the ratio that it clips by turns is not confirmed: the geometric mean of the tokens' here
(`turn_ratio`). A conversation that was cut is not bootstrapped, as nothing that follows it is known.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.settings import Fraction, Weight, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import AdvantageStage, turn_rewards
from maxent_rl.tokens.objectives.aggregates import Aggregate, of_part
from maxent_rl.tokens.objectives.critics import CriticLoss
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Surrogate, bounds
from maxent_rl.tokens.turns import Turns
from maxent_rl.types import PyTree

_TURNS = "turns"
_LARGEST = 20.0  # nats: what losses cut log-ratios off at


@struct.dataclass
class TurnCriticAdvantage(AdvantageStage):
    """Generalized advantages over the turns of conversations, from the critic's values before their first tokens."""

    needs: ClassVar[tuple[str, ...]] = ("values", "turns", "turn_rewards")
    turn_discount: Fraction = 0.99
    """Factor by turn."""
    turn_trace_decay: Fraction = 0.9
    """Lambda by turn."""
    whiten_advantages: bool = static(True)
    """Whiten them over all turns of the batch, each counted once."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages, and the critic's targets at the first tokens of turns, both [N, T]."""
        assert batch.turns is not None and batch.values is not None
        turns = Turns.of(batch.turns, batch.mask & batch.scored[:, None])
        values, earned = turns.at_first(batch.values), turn_rewards(batch, turns)
        found = losses.response_advantages(earned, values, turns.there, self.turn_discount, self.turn_trace_decay)
        targets = jnp.where(turns.first, turns.spread(found + values), 0.0)
        if self.whiten_advantages:
            found = losses.whiten(found, turns.there)
        return state, dataclasses.replace(batch, advantages=turns.spread(found), value_targets=targets)


@struct.dataclass
class TurnClipped(Surrogate):
    """PPO's clipped surrogate whose ratio is that of the turn."""

    needs: ClassVar[tuple[str, ...]] = ("turns",)
    turn_clip_low: Weight = 0.2
    """Below `1 - turn_clip_low` a turn of negative advantage is clipped."""
    turn_clip_high: Weight = 0.2
    """Above `1 + turn_clip_high` one of positive advantage is."""
    turn_ratio: Literal["mean", "product", "token"] = static("mean")
    """The geometric mean of the tokens' ratios, their product, or each token's own."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T] and what was clipped."""
        if self.turn_ratio != "token":
            work = work.replace(ratio=ratio_of_turns(work, self.turn_ratio == "product"))
        low, high = bounds(work, self.turn_clip_low, self.turn_clip_high)
        loss = losses.clipped_surrogate(work.ratio, work.advantages, low, high)
        return state, work.replace(loss=loss, clipped=losses.clipped_away(work.ratio, work.advantages, low, high))


def ratio_of_turns(work: Work, product: bool = False) -> Array:
    """A turn's ratio [N, T]: the geometric mean of its tokens', or their product, at most 20 nats from 1.

    The value at each token is the turn's, and its gradient such that the mean over the turn's tokens has that of the turn.
    """
    assert work.batch.turns is not None
    turns = Turns.of(work.batch.turns, work.mask)
    apart = jax.lax.stop_gradient(jnp.where(work.mask, work.outputs.logp - work.batch.logp_old, 0.0))
    lengths = turns.spread(turns.lengths)
    total = turns.spread(turns.total(apart) if product else turns.mean(apart))
    own = work.outputs.logp - jax.lax.stop_gradient(work.outputs.logp)
    return jnp.exp(jnp.clip(total, -_LARGEST, _LARGEST) + (lengths * own if product else own))


@struct.dataclass
class TurnCriticLoss(CriticLoss):
    """Adds the critic's loss before turns, averaged over the turns of a step."""

    needs: ClassVar[tuple[str, ...]] = ("values", "value_targets", "value", "turns")

    def counts(self, batch: TokenBatch, counts: dict[str, Array]) -> dict[str, Array]:
        """And the turns."""
        return counts | {_TURNS: jnp.sum(self._begins(batch, batch.mask), axis=-1)}

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds to `extra` []."""
        begins = self._begins(work.batch, work.mask)
        error, work = self.errors(work, begins)
        count = jnp.maximum(work.batch.count(_TURNS, jnp.sum(begins)), 1)
        mean = of_part(jnp.sum(error) / count, work.batch)
        return state, work.replace(extra=work.extra + self.value_weight * mean)

    def _begins(self, batch: TokenBatch, mask: Array) -> Array:
        """[N, T] the first tokens of turns of responses that have a reward."""
        assert batch.turns is not None
        return Turns.of(batch.turns, mask & batch.scored[:, None]).first


PRESETS: dict[str, Preset] = {
    "turn_ppo": Preset(
        "ppo_critic whose steps are turns: advantages over turns, of a critic that speaks before each of them",
        "Turn-PPO, arXiv 2512.17008",
        (TurnCriticAdvantage(), TurnClipped(), TurnCriticLoss(), Aggregate()),
    ),
}
