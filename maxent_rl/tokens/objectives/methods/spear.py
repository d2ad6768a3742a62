"""SPEAR: wins of earlier iterations are imitated, more and more; tool calls are paid for, less and less. With it Dr.BoT.

Dr.BoT is GRPO without the standard deviation, with a wider upper clip, without responses that are cut, lack an answer or
repeat themselves, and without the quarter of the groups whose rewards differ least. SPEAR adds a reward for tool calls that
fades over the iterations, and replays responses of positive advantage, whose loss fades in: their advantages are taken anew,
against the median of the groups' means by now, and a few tokens of high covariance are left out (Clip-Cov, with bounds of
its own). When, and what, is replayed is `maxent_rl.tokens.replay`.

Source: Learn the Ropes, Then Trust the Wins: Self-imitation with Progressive Exploration for Agentic Reinforcement Learning
(arXiv 2509.22601), in the form of its released code for mathematics; that for games keeps conversations without a tool call
(`replay_calls=false`) and learns from advantages of exactly 0 (`replay_zeros=true`). The paper writes one sum of both losses
(`replay_order=joint`); the code takes optimiser steps for one after the other, where Adam undoes part of the weight. That
code sums over tokens and rows and divides by the length limit alone; here both losses are divided by the number of new
responses in a step, too, so that a replayed response weighs `weight` times as much as a new one. Whether Clip-Cov is part of
Dr.BoT is not confirmed (its description says so, its script does not): here `clip_share` adds it. Of the code's filters the
one of unreadable text is left out, as no vocabulary of ours has any.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.settings import Count, Finite, Fraction, Interval, Weight, static
from maxent_rl.tokens.batch import TokenBatch, responses
from maxent_rl.tokens.objectives.advantages import GroupAdvantage, OverlongFilter, RewardStage, leave_out
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.objectives.methods.covariance import ClipCov
from maxent_rl.tokens.objectives.regularisers import Regulariser
from maxent_rl.tokens.objectives.replaying import Recalibration, Replay
from maxent_rl.tokens.objectives.selection import largest, share_of
from maxent_rl.tokens.objectives.stage import Preset, Sampling, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.tokens.turns import Turns
from maxent_rl.types import PyTree

_LEVELS = 1e5  # deviations nearer to each other than the largest over this are equal: not their rounding decides
_SOURCE = "Learn the Ropes, Then Trust the Wins: Self-imitation with Progressive Exploration (SPEAR), arXiv 2509.22601"


@struct.dataclass
class ToolCallReward(RewardStage):
    """Pays for tool calls, right answers and wrong ones alike, less and less over the iterations."""

    call_schedule: Literal["cosine", "constant", "none"] = static("cosine")
    """How the payment's weight goes over the iterations: from 1 to 0 along a cosine, 1 always, or 0 always."""
    call_iterations: Weight = 200.0
    """Iterations after which the cosine is 0."""
    call_reward: Weight = 0.1
    """Payment for each call."""
    call_most: Weight = 1.0
    """And the most for a conversation."""
    call_form: Literal["calls", "answers", "turns"] = static("calls")
    """What is paid for: each call; of conversations with a reward above 0 only that there is a call, with `call_most` (the
    released code's form for one model); or each turn (its form for games)."""

    def init(self, key: Array) -> PyTree:
        """Iterations so far."""
        return jnp.zeros((), jnp.int32)

    @property
    def active(self) -> bool:
        """Whether anything is ever paid."""
        return self.call_schedule != "none"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Calls, or turns."""
        return ("turns",) if self.call_form == "turns" else ("calls",)

    def weight(self, iteration: ArrayLike) -> Array:
        """[] of the payment in iteration [], from 1."""
        if self.call_schedule == "constant":
            return jnp.ones(())
        return 1.0 - risen(iteration, self.call_iterations)

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Raises the rewards [N]."""
        state = state + 1
        rewards = jnp.asarray(batch.rewards, jnp.float32)
        paid = self.weight(state) * jnp.where(responses(batch), self.payment(batch), 0.0)
        return state, dataclasses.replace(batch, rewards=rewards + paid)

    def payment(self, batch: TokenBatch) -> Array:
        """[N] before its weight."""
        if self.call_form == "turns":
            assert batch.turns is not None
            count = jnp.sum(Turns.of(batch.turns, batch.mask).there, axis=-1)
        else:
            assert batch.calls is not None
            count = batch.calls
        paid = jnp.minimum(self.call_reward * count, self.call_most)
        if self.call_form == "answers":
            return jnp.where(batch.outcomes > 0, jnp.where(count > 0, self.call_most, 0.0), paid)
        return paid

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Measures the weight."""
        return state, work.measure(**{"episode/call_weight": self.weight(state)})


@struct.dataclass
class FaultyFilter(RewardStage):
    """Masks responses without an answer that can be read, and those that repeat themselves; their rewards still count."""

    mask_unanswered: bool = static(True)
    """Leave responses without a final answer out of the loss."""
    mask_repetitive: bool = static(True)
    """Leave responses that say the same again and again out of it."""
    repeated_tokens: Count = static(20)
    """Tokens of a stretch that must not come again and again."""
    repeated_times: Count = static(10)
    """How often it must come for that."""

    @property
    def active(self) -> bool:
        """Whether either is switched on."""
        return self.mask_unanswered or self.mask_repetitive

    @property
    def inputs(self) -> tuple[str, ...]:
        """What its filters look at."""
        return ("answers",) * self.mask_unanswered + ("tokens",) * self.mask_repetitive

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Masks their rows."""
        faulty = jnp.zeros(batch.mask.shape[0], bool)
        if self.mask_unanswered:
            faulty = faulty | (jnp.asarray(batch.answers) < 0)
        if self.mask_repetitive:
            assert batch.tokens is not None
            faulty = faulty | repetitive(batch.tokens, batch.mask, self.repeated_tokens, self.repeated_times)
        return state, leave_out(batch, faulty)


@struct.dataclass
class SpreadFilter(RewardStage):
    """Keeps the share of the groups whose rewards differ most, at least one; of equal ones the first.

    All others are no part of the batch: `TokenBatch.dropped`.
    """

    kept_groups: Fraction = 0.75
    """The share; 1 for all."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Masks the rows of the other groups, and notes them."""
        groups = Grouping.of(batch)
        spread = groups.deviation(batch.outcomes)
        top = jnp.max(spread, initial=0.0)
        level = jnp.round(spread / jnp.where(top > 0, top, 1.0) * _LEVELS)
        kept = largest(level, groups.first, share_of(jnp.sum(groups.first), self.kept_groups))
        dropped = groups.valid & (groups.total(kept.astype(jnp.float32)) == 0)
        before = dropped if batch.dropped is None else dropped | batch.dropped
        return state, leave_out(dataclasses.replace(batch, dropped=before), dropped)


@struct.dataclass
class SelfImitation(Regulariser):
    """Wants responses of positive advantage replayed; the trainer adds their loss, which grows over the iterations.

    They are learned from by the objective's own surrogate and aggregate, with Clip-Cov. It goes with any objective that
    compares the responses of a group.
    """

    replay_weight: Weight = 1.0
    """Weight of a replayed response beside a new one, once it has risen."""
    replay_rise: Weight = 300.0
    """Iterations over which the weight rises from 0, along a cosine."""
    replay_size: Count | None = static(None)
    """Most responses that are replayed at once; they are as soon as half as many again are kept that lie above the median of
    the groups' means. None for as many as an iteration draws."""
    replay_means: Count = static(10_240)
    """Means of groups, the last ones, among which that median is taken."""
    replay_age: Annotated[int, Interval(0, 10)] = static(5)
    """Iterations that a response is kept behind the newest one."""
    replay_calls: bool = static(False)
    """Keep only conversations in which a tool was called."""
    replay_advantages: Recalibration = static("median")
    """median: the reward less that median; median-deviation: in units of the median deviation of groups, too; decay: the
    advantage that the response had, times `replay_decay`."""
    replay_decay: Annotated[float, Interval(0, 1, low_open=True)] = 1.0
    """That factor."""
    replay_zeros: bool = static(False)
    """Count responses whose reward is exactly the median among the replayed ones, too; they teach nothing."""
    replay_order: Literal["joint", "consecutive"] = static("joint")
    """One sum of both losses in each optimiser step, or optimiser steps for replayed responses after those for new ones."""
    replay_clip_share: Fraction = 0.02
    """Clip-Cov of the replayed responses: the share of their tokens that is left out, at least one where any may be."""
    replay_covariance_low: Finite = 1.0
    """Only tokens whose covariance lies above this are left out; not below the upper bound for none."""
    replay_covariance_high: Finite = 40.0
    """And below this."""

    def init(self, key: Array) -> PyTree:
        """Iterations so far."""
        return jnp.zeros((), jnp.int32)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Calls, where they decide."""
        return ("calls",) * self.replay_calls

    def weight(self, iteration: ArrayLike) -> Array:
        """[] of a replayed response in iteration [], from 1."""
        return self.replay_weight * risen(iteration, self.replay_rise)

    def sampling(self, state: PyTree) -> Sampling:
        """The wish for replayed responses, with the weight of this iteration once the batch is prepared."""
        chosen = ClipCov(self.replay_covariance_low, self.replay_covariance_high, self.replay_clip_share)
        wish = Replay(
            size=self.replay_size,
            means=self.replay_means,
            age=self.replay_age,
            calls=self.replay_calls,
            recalibration=self.replay_advantages,
            zeros=self.replay_zeros,
            consecutive=self.replay_order == "consecutive",
            decay=self.replay_decay,
            weight=self.weight(state),
            stages=(chosen,),
        )
        return Sampling(replay=wish)

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Counts the iteration."""
        return state + 1, batch

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Measures the weight."""
        return state, work.measure(**{"replay/weight": self.weight(state)})


def risen(iteration: ArrayLike, iterations: ArrayLike) -> Array:
    """[] `(1 - cos(pi s / S)) / 2` in iteration s of S, and 1 after them.

    Source: arXiv 2509.22601, schedules of both parts.
    """
    whole = jnp.asarray(iterations, jnp.float32)
    share = jnp.where(whole > 0, jnp.asarray(iteration) / jnp.where(whole > 0, whole, 1.0), 1.0)
    # sin^2 of half the angle: 1 - cos loses all digits of the first iterations in single precision.
    return jnp.sin(0.5 * np.pi * jnp.minimum(share, 1.0)) ** 2


def repetitive(tokens: Array, mask: Array, length: int, times: int) -> Array:
    """Whether a stretch of tokens comes again and again in a response; occurrences may overlap.

    Args:
      tokens: [N, T] int32.
      mask: [N, T] bool: those that count; a stretch has no others between.
      length: tokens of a stretch.
      times: occurrences of the same one that make a response repetitive.

    Returns:
      [N] bool. Stretches are told apart by 64 bits of hash.
    """
    rows, most = tokens.shape
    starts = most - length + 1
    if starts < times:
        return jnp.zeros(rows, bool)
    whole = jnp.ones((rows, starts), bool)
    hashes = [jnp.zeros((rows, starts), jnp.uint32) for _ in range(2)]
    for place in range(length):
        part = slice(place, place + starts)
        whole = whole & mask[:, part]
        token = tokens[:, part].astype(jnp.uint32) + jnp.uint32(1)
        hashes = [
            held * jnp.uint32(step) + _mixed(token) for held, step in zip(hashes, (0x01000193, 0x9E3779B1), strict=True)
        ]

    def of_row(whole: Array, first: Array, second: Array) -> Array:
        order = jnp.lexsort((second, first, ~whole))
        sorted_ = [values[order] for values in (whole, first, second)]
        last = [values[times - 1 :] for values in sorted_]
        begin = [values[: starts - times + 1] for values in sorted_]
        same = [one == other for one, other in zip(begin, last, strict=True)]
        return jnp.any(begin[0] & same[0] & same[1] & same[2])

    found: Array = jax.vmap(of_row)(whole, *hashes)
    return found


def _mixed(values: Array) -> Array:
    """Numbers [...] whose bits depend on all bits of other ones."""
    values = (values ^ (values >> 16)) * jnp.uint32(0x7FEB352D)
    return values ^ (values >> 15)


_DR_BOT = (
    OverlongFilter(),
    FaultyFilter(),
    SpreadFilter(),
    GroupAdvantage("none"),
    Clipped(clip_low=0.2, clip_high=0.28),
    Aggregate("seq-mean-token-sum-norm", count_rows="all", divide_rows=True),
)

PRESETS: dict[str, Preset] = {
    "dr_bot": Preset(
        "grpo without deviation, with a wider upper clip, without faulty responses and the groups that differ least",
        _SOURCE,
        (ToolCallReward("none"), *_DR_BOT),
    ),
    "spear": Preset(
        "dr_bot with a fading reward for tool calls, Clip-Cov, and wins of earlier iterations that are imitated more and more",
        _SOURCE,
        (ToolCallReward(), *_DR_BOT, ClipCov(), SelfImitation(replay_calls=True)),
    ),
}

# What the released code calls its settings.
ELSEWHERE: dict[str, str] = {
    "baseline_buffer_size": "replay_means",
    "tolerate_steps": "replay_age",
    "weight_decay_trajectory_replay": "replay_decay, with replay_advantages=decay",
}
