"""EPO: an entropy bonus averaged over turns, and a penalty on entropies outside a corridor around their own history.

Source: EPO: Entropy-regularized Policy Optimization for LLM Agents Reinforcement Learning (arXiv 2509.22576), in its second
version. Its first version and the released code have a penalty that is a constant outside the corridor: it has no gradient,
and changes the reported value of the loss alone (`epo_penalty=indicator`). Whatever that code reached is due to the bonus.
With the published weights the penalty of the second version weakens the bonus by a tenth at most: it turns against entropy
only where `corridor_weight` times the schedule is above 1.

The released code (`epo_released`) differs from both texts besides: bonus and penalty are means over tokens; each turn has a
history of its own, padded on the left and with the present batch in it; the penalty counts only where somebody has come to
the 25th turn, asked there of each part of a step and here of the step; and its weight falls by a schedule of its own. There
a row is one turn, here a conversation. Its penalty of invalid actions is the task's to pay.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.settings import Count, NonNegative, Weight, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate, of_part
from maxent_rl.tokens.objectives.regularisers import KLPenalty, Regulariser
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.tokens.turns import Turns
from maxent_rl.types import PyTree

_LATE = "late_turns"


@struct.dataclass
class EntropyHistory:
    """What the policies that drew the batches so far were like.

    Attributes:
      total: [] sum of their mean entropies by token, the present batch's included, in nats; [turns] where turns are apart.
      batches: [] int32 how many there were.
      centre: what the corridor lies around, as `total`; 0 where nothing is known.
    """

    total: Array
    batches: Array
    centre: Array


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
    """How fast the penalty's factor falls over the batches."""
    corridor_batches: Count = 125
    """Batches of the whole training, by which that schedule is measured."""
    corridor_factor: Literal["falling", "vanishing"] = static("falling")
    """falling: from 2 towards 1, as in the second version; vanishing: from 1 to almost 0, as in the released code."""
    corridor_history: Literal["batch", "turn"] = static("batch")
    """batch: the mean over all tokens of the batches before this one; turn: of each turn apart, with this batch, as in the
    released code."""
    corridor_turns: Count = static(50)
    """Turns that such a history has room for; that of a batch with fewer stands at its end, as in the released code."""
    corridor_since: NonNegative = 0
    """The penalty counts at steps in which some conversation has this turn, counted from 0 (25 in the released code)."""
    epo_average: Literal["turns", "tokens"] = static("turns")
    """turns: means over tokens of turns of conversations; tokens: the mean over all tokens, as in the released code."""
    epo_penalty: Literal["hinge", "indicator"] = static("hinge")
    """hinge: by how much an entropy is outside, as in the second version; indicator: 1 outside, which has no gradient."""

    def init(self, key: Array) -> PyTree:
        """No history."""
        nothing = jnp.zeros((self.corridor_turns,) if self.corridor_history == "turn" else ())
        return EntropyHistory(nothing, jnp.zeros((), jnp.int32), nothing)

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the corridor's centre for this batch, and notes its own entropy for the next ones."""
        assert batch.entropy_old is not None
        came = jnp.any(batch.mask).astype(jnp.int32)  # an empty batch says nothing of the policy
        batches = state.batches + came
        if self.corridor_history == "turn":
            total = state.total + came * turn_history(batch, self.corridor_turns)
            return EntropyHistory(total, batches, total / jnp.maximum(batches, 1)), batch
        centre = state.total / jnp.maximum(state.batches, 1)
        total = state.total + came * losses.masked_mean(batch.entropy_old, batch.mask)
        return EntropyHistory(total, batches, centre), batch

    def counts(self, batch: TokenBatch, counts: dict[str, Array]) -> dict[str, Array]:
        """And the conversations that have come to the turn from which on the penalty counts."""
        return counts | {_LATE: self._late(batch, batch.mask)}

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds to `extra` []."""
        entropy, batch = work.outputs.entropy, work.batch
        assert entropy is not None and batch.turns is not None
        step = jnp.maximum(state.batches - 1, 0)
        centre = state.centre
        if self.corridor_history == "turn":
            centre = centre[jnp.clip(batch.turns, 0, self.corridor_turns - 1)]
        outside = corridor_penalty(entropy, self.corridor_low * centre, self.corridor_high * centre, self.epo_penalty)
        known = (step > 0) | (self.corridor_history == "turn")
        known = known & (batch.count(_LATE, jnp.sum(self._late(batch, work.mask))) > 0)
        schedule = corridor_schedule(step, self.corridor_batches, self.corridor_decay, self.corridor_factor)
        weight = jnp.where(known, self.corridor_weight * schedule, 0.0)
        bonus = of_part(self._average(entropy - weight * outside, work), batch)
        work = work.measure(**{
            "epo/outside": losses.masked_mean((outside > 0) & known, work.mask),
            "epo/schedule": schedule,
            "epo/history": jnp.mean(state.centre),
        })  # fmt: skip
        return state, work.replace(extra=work.extra - self.turn_entropy_bonus * bonus)

    def _late(self, batch: TokenBatch, mask: Array) -> Array:
        """[N] 1 for each conversation that has come so far."""
        assert batch.turns is not None
        return jnp.any(mask & (batch.turns >= self.corridor_since), axis=-1).astype(jnp.int32)

    def _average(self, values: Array, work: Work) -> Array:
        """[] what the rows here add to the mean over the step of values [N, T]."""
        batch, mask = work.batch, work.mask
        if self.epo_average == "tokens":
            count = jnp.maximum(batch.count("tokens", jnp.sum(mask)), 1)
            return jnp.sum(jnp.where(mask, values, 0.0)) / count
        assert batch.turns is not None
        turns = Turns.of(batch.turns, mask)
        rows = jnp.maximum(batch.count("sequences", jnp.sum(jnp.any(mask, axis=-1))), 1)
        number = jnp.maximum(jnp.sum(turns.there, axis=-1), 1)
        return jnp.sum(jnp.sum(turns.mean(values), axis=-1) / number) / rows


def turn_history(batch: TokenBatch, room: int) -> Array:
    """[room] the mean entropy of each turn of a batch, over all its tokens of that turn, with zeros before the first.

    The last turn that any conversation has stands at the end, so that in a batch of T turns turn t stands at
    `room - T + t`, and whoever reads at t finds turn `t - (room - T)`, or 0. Turns beyond the room are left out.

    Source: the released code of arXiv 2509.22576.
    """
    assert batch.entropy_old is not None and batch.turns is not None
    turns = Turns.of(batch.turns, batch.mask)
    tokens = jnp.sum(turns.lengths, axis=0)
    means = jnp.sum(turns.total(batch.entropy_old), axis=0) / jnp.maximum(tokens, 1)
    number = jnp.max(jnp.where(tokens > 0, jnp.arange(tokens.shape[0]) + 1, 0))
    place = jnp.arange(room) - (room - jnp.minimum(number, room))
    return jnp.where(place >= 0, means[jnp.clip(place, 0, means.shape[0] - 1)], 0.0)


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


def corridor_schedule(step: ArrayLike, steps: ArrayLike, decay: ArrayLike, kind: str = "falling") -> Array:
    """The factor of the penalty at step [] of so many [], from 0.

    Args:
      step: [...] int.
      steps: [].
      decay: [].
      kind: falling: 2 at first, and nearer to 1 the later, `1 + exp(-decay * step / max(1, floor(steps / 2)))`;
        vanishing: `1 - 0.2 * (1 - exp(-2 * step / half))` up to half of the steps, and from there on
        `0.8 * exp(-decay * (step - half) / (steps - half))`, with a jump between.

    Returns:
      [...] above 0.

    Source: arXiv 2509.22576, version 2, and the released code.
    """
    step, steps, decay = (jnp.asarray(given) for given in (step, steps, decay))
    half = jnp.maximum(steps // 2, 1)
    if kind == "falling":
        return 1.0 + jnp.exp(-decay * step / half)
    step = jnp.clip(step, 0, steps)
    early = 1.0 - 0.2 * (1.0 - jnp.exp(-2.0 * step / half))
    late = 0.8 * jnp.exp(-decay * (step - half) / jnp.maximum(steps - half, 1))
    return jnp.where(step <= half, early, late)


_SOURCE = "EPO: Entropy-regularized Policy Optimization for LLM Agents Reinforcement Learning, arXiv 2509.22576"
PRESETS: dict[str, Preset] = {
    "epo": Preset(
        "grpo with an entropy bonus by turns, and a penalty on entropies outside a corridor around their history",
        _SOURCE,
        (GroupAdvantage(), Clipped(), EntropyCorridor(), Aggregate()),
    ),
    "epo_released": Preset(
        "epo by the released code: means over tokens, a history of each turn, and a penalty late in long conversations that "
        "has no gradient",
        _SOURCE,
        (
            GroupAdvantage(),
            Clipped(dual_clip=3.0),
            KLPenalty(kl_weight=0.01, kl_largest=10.0),
            EntropyCorridor(
                corridor_weight=0.1,
                corridor_batches=150,
                corridor_factor="vanishing",
                corridor_history="turn",
                corridor_since=25,
                epo_average="tokens",
                epo_penalty="indicator",
            ),
            Aggregate(),
        ),
    ),
}
