"""EPO: an entropy bonus averaged over turns, and a penalty on entropies outside a corridor around their own history.

Source: EPO: Entropy-regularized Policy Optimization for LLM Agents Reinforcement Learning (arXiv 2509.22576), in its second
version. Its first version and the released code have a penalty that is a constant outside the corridor: it has no gradient,
and changes the reported value of the loss alone (`epo_penalty=indicator`). Whatever that code reached is due to the bonus.
With the published weights the penalty of the second version weakens the bonus by a tenth at most: it turns against entropy
only where `corridor_weight` times the schedule is above 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.settings import Count, Weight, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate, of_part
from maxent_rl.tokens.objectives.regularisers import Regulariser
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.tokens.turns import Turns
from maxent_rl.types import PyTree


@struct.dataclass
class EntropyHistory:
    """What the policies that drew the batches so far were like.

    Attributes:
      total: [] sum of their mean entropies by token, the present batch's included, in nats.
      batches: [] int32 how many there were.
      before: [] mean of all but the present one, which the corridor lies around; 0 for the first.
    """

    total: Array
    batches: Array
    before: Array


@struct.dataclass
class EntropyCorridor(Regulariser):
    """Rewards entropy, the mean over tokens of a turn, turns of a conversation, and conversations, and holds it in a corridor.

    A response of one turn is a conversation of one turn. The corridor is that of the mean over all batches before this one;
    the first has none.
    """

    needs: ClassVar[tuple[str, ...]] = ("entropy", "entropy_old", "turns")
    turn_entropy_bonus: Weight = 0.001
    """Weight of all that this stage adds."""
    corridor_weight: Weight = 0.05
    """Weight of the penalty beside the bonus (0.05 and 0.1 in the paper)."""
    corridor_low: Weight = 0.0
    """The corridor begins at so many times the mean entropy so far; with 0, as published, it is open below."""
    corridor_high: Weight = 2.0
    """It ends at so many times."""
    corridor_decay: Weight = 3.0
    """How fast the penalty's factor falls from 2 towards 1 over the batches."""
    corridor_batches: Count = 125
    """Batches of the whole training, by which that schedule is measured."""
    epo_penalty: Literal["hinge", "indicator"] = static("hinge")
    """hinge: by how much an entropy is outside, as in the second version; indicator: 1 outside, which has no gradient."""

    def init(self, key: Array) -> PyTree:
        """No history."""
        return EntropyHistory(jnp.zeros(()), jnp.zeros((), jnp.int32), jnp.zeros(()))

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the corridor's centre for this batch, and notes its own entropy for the next ones."""
        assert batch.entropy_old is not None
        mean = losses.masked_mean(batch.entropy_old, batch.mask)
        before = state.total / jnp.maximum(state.batches, 1)
        came = jnp.any(batch.mask).astype(jnp.int32)  # an empty batch says nothing of the policy
        return EntropyHistory(state.total + mean * came, state.batches + came, before), batch

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds to `extra` []."""
        entropy, batch = work.outputs.entropy, work.batch
        assert entropy is not None and batch.turns is not None
        step = jnp.maximum(state.batches - 1, 0)
        outside = corridor_penalty(
            entropy, self.corridor_low * state.before, self.corridor_high * state.before, self.epo_penalty
        )
        known = step > 0
        schedule = corridor_schedule(step, self.corridor_batches, self.corridor_decay)
        weight = jnp.where(known, self.corridor_weight * schedule, 0.0)
        turns = Turns.of(batch.turns, work.mask)
        rows = jnp.maximum(batch.count("sequences", jnp.sum(jnp.any(work.mask, axis=-1))), 1)

        def over_turns(values: Array) -> Array:
            """[] the sum over conversations of the means over their turns of the means over their tokens."""
            number = jnp.maximum(jnp.sum(turns.there, axis=-1), 1)
            return jnp.sum(jnp.sum(turns.mean(values), axis=-1) / number)

        bonus = of_part(over_turns(entropy - weight * outside) / rows, batch)
        work = work.measure(**{
            "epo/outside": losses.masked_mean((outside > 0) & known, work.mask),
            "epo/schedule": schedule,
            "epo/history": state.before,
        })  # fmt: skip
        return state, work.replace(extra=work.extra - self.turn_entropy_bonus * bonus)


def corridor_penalty(entropy: Array, low: ArrayLike, high: ArrayLike, kind: str = "hinge") -> Array:
    """By how much entropies are outside a corridor.

    Args:
      entropy: [...] nats.
      low: [] where it begins.
      high: [] where it ends.
      kind: hinge for the distance, of gradient 1, -1 or, inside, 0; indicator for 1 outside and 0 inside, without gradient.

    Returns:
      [...] at least 0.

    Source: arXiv 2509.22576, version 2, and version 1.
    """
    low, high = jax.lax.stop_gradient((jnp.asarray(low), jnp.asarray(high)))
    if kind == "indicator":
        return jax.lax.stop_gradient(((entropy <= low) | (entropy >= high)).astype(jnp.float32))
    return jax.nn.relu(low - entropy) + jax.nn.relu(entropy - high)


def corridor_schedule(step: ArrayLike, steps: ArrayLike, decay: ArrayLike) -> Array:
    """[] the factor of the penalty at step [] of so many [], from 0: 2 at first, and nearer to 1 the later.

    Source: arXiv 2509.22576, version 2: `1 + exp(-decay * step / max(1, floor(steps / 2)))`.
    """
    middle = jnp.maximum(jnp.asarray(steps) // 2, 1)
    return 1.0 + jnp.exp(-jnp.asarray(decay) * jnp.asarray(step) / middle)


PRESETS: dict[str, Preset] = {
    "epo": Preset(
        "grpo with an entropy bonus by turns, and a penalty on entropies outside a corridor around their history",
        "EPO: Entropy-regularized Policy Optimization for LLM Agents Reinforcement Learning, arXiv 2509.22576",
        (GroupAdvantage(), Clipped(), EntropyCorridor(), Aggregate()),
    ),
}
