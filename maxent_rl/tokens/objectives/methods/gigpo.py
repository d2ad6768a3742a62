"""GiGPO: whole conversations against those of their group, and single turns against those that began in the same state.

Nobody draws more for it: where the responses to one prompt come to a state again (an anchor), what was said there is
compared by what it earned from there on, discounted by turn. What a state is says the task (`ConversationTask.anchor`): all
that was said and heard, or what its environment holds.

Source: Group-in-Group Policy Optimization for LLM Agent Training (arXiv 2505.10978), its advantages. Which turns share a
state is decided by equality here; a release of the authors can also take similar texts for equal. That code counts a
conversation in its group's mean once for each of its turns, unless it is told otherwise; the paper, and this, once. Its
divergence from a reference is `kl_weight=0.01`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.settings import Fraction, Positive, Weight, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import AdvantageStage, relative_rewards, turn_rewards
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.grouping import Grouping, numbered
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.tokens.turns import Turns
from maxent_rl.types import PyTree


@struct.dataclass
class GroupInGroupAdvantage(AdvantageStage):
    """The advantage of a conversation in its group, and beside it that of each turn among those from the same state.

    A turn from a state that nobody else came to has the first alone.
    """

    needs: ClassVar[tuple[str, ...]] = ("turns", "turn_rewards", "anchors")
    gigpo_scale: Literal["group", "none"] = static("group")
    """Divide both by the standard deviation of what is compared, or by nothing."""
    gigpo_epsilon: Positive = 1e-6
    """Added to the standard deviation."""
    step_weight: Weight = 1.0
    """Weight of the advantage of turns beside that of conversations, omega in the paper."""
    step_discount: Fraction = 0.95
    """Factor by turn of what is earned later."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N, T]."""
        assert batch.turns is not None and batch.anchors is not None
        turns = Turns.of(batch.turns, batch.mask & batch.scored[:, None])
        earned = turn_rewards(batch, turns)
        returns = losses.response_advantages(earned, jnp.zeros(earned.shape), turns.there, self.step_discount, 1.0)
        of_steps = self.compared(returns, turns.at_first(batch.anchors), Grouping.of(batch).group, turns.there)
        of_episodes = relative_rewards(batch, self.gigpo_scale, self.gigpo_epsilon)
        found = turns.spread(of_episodes[:, None] + self.step_weight * of_steps)
        return state, dataclasses.replace(batch, advantages=found)

    def compared(self, returns: Array, anchors: Array, group: Array, there: Array) -> Array:
        """What each turn has earned against those of its group from the same state.

        Args:
          returns: [N, K] from each turn on.
          anchors: [N, K] whole numbers, equal for the same state.
          group: [N] whole numbers, equal for responses to one prompt.
          there: [N, K] bool: which turns exist.

        Returns:
          [N, K]; 0 for turns that do not exist, or whose state nobody else came to.
        """
        flat = there.ravel()
        labels = numbered(anchors.ravel(), jnp.repeat(group, anchors.shape[1]), flat)
        found = losses.group_advantages(
            returns.ravel(), self.gigpo_scale, self.gigpo_epsilon, mask=flat, group_index=labels
        )
        size = jax.ops.segment_sum(flat.astype(jnp.int32), labels, flat.shape[0])[labels]
        return jnp.where(flat & (size > 1), found, 0.0).reshape(there.shape)


PRESETS: dict[str, Preset] = {
    "gigpo": Preset(
        "grpo, and beside it each turn against those of its group that began in the same state",
        "Group-in-Group Policy Optimization for LLM Agent Training, arXiv 2505.10978",
        (GroupInGroupAdvantage(), Clipped(), Aggregate()),
    ),
}

# What verl-agent calls its settings.
ELSEWHERE: dict[str, str] = {
    "step_advantage_w": "step_weight, of gigpo",
}
