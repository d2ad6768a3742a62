"""Responses that are kept to be learned from again, and the means of groups by which their worth is taken anew.

An objective says what it wants of them (`objectives.Replay`). All of it are arrays of fixed shapes, a part of the training
state: it is saved with it, and seeds are a `vmap`. Each iteration goes in this order: are there half as many again as are
replayed at once, worth more than the median of what groups have reached so far, some are drawn, and all are forgotten; old
ones are forgotten; the groups of the iteration are noted; its responses of positive advantage are kept.

Source: SPEAR (arXiv 2509.22601), in the order of its released code. There Python lists grow as they like; here there is room
for all that can be kept at once.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.tokens.batch import Prompted, TokenBatch
from maxent_rl.tokens.objectives import Objective, Replay
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.prompts.ring import Ring
from maxent_rl.types import Array, Metrics, PyTree

_ENOUGH = 1.5  # times the responses that are replayed at once
_NEVER = 2**31 - 1  # an iteration after all others
_COLUMNS = frozenset({"entropy", "tokens", "turns"})  # that a replayed batch, or what is said of it, has


@struct.dataclass
class Kept:
    """Responses, with room for P tokens of a prompt and T of what was said after it, padded behind.

    Attributes:
      prompts: [..., P] int32.
      prompt_mask: [..., P] bool.
      tokens: [..., T] int32.
      there: [..., T] bool: where anybody said anything.
      mask: [..., T] bool: what of it is learned from.
      turns: [..., T] int32.
      logp: [..., T] under the policy that drew them, in nats.
      rewards: [...] whole ones, as they were when it was drawn.
      advantages: [...] likewise.
    """

    prompts: Array
    prompt_mask: Array
    tokens: Array
    there: Array
    mask: Array
    turns: Array
    logp: Array
    rewards: Array
    advantages: Array


@struct.dataclass
class Levels:
    """What groups have reached in the last iterations, the oldest first.

    Attributes:
      means: [M] of their rewards.
      deviations: [M] the standard deviations of these (ddof 1).
      iterations: [M] int32 when that was.
      count: [] int32 how many there are; what stands beyond means nothing.
    """

    means: Array
    deviations: Array
    iterations: Array
    count: Array

    @classmethod
    def create(cls, room: int) -> Levels:
        """None, with room for so many."""
        zeros = jnp.zeros(room)
        return cls(zeros, zeros, jnp.zeros(room, jnp.int32), jnp.zeros((), jnp.int32))

    @property
    def there(self) -> Array:
        """[M] bool."""
        return jnp.arange(self.means.shape[0]) < self.count

    def median(self, values: Array) -> Array:
        """[] of the means or the deviations [M], between the two in the middle where their number is even; 0 of none."""
        return losses.masked_quantile(values, self.there, 0.5)

    def noted(self, means: Array, deviations: Array, valid: Array, iteration: Array, most: int) -> Levels:
        """With those of an iteration: where there are more than `most` already, its oldest iterations are forgotten first.

        Args:
          means: [K].
          deviations: [K].
          valid: [K] bool: which of them are groups.
          iteration: [] int32.
          most: how many may stand before the new ones come.
        """
        room = self.means.shape[0]
        when = jnp.where(self.there, self.iterations, _NEVER)
        first = jnp.searchsorted(when, when)  # of those of the same iteration
        kept = self.there & (self.count - first <= most)
        there = jnp.concatenate([kept, valid])
        order = jnp.argsort(~there, stable=True)[:room]

        def joined(old: Array, new: Array) -> Array:
            return jnp.concatenate([old, new])[order]

        return Levels(
            joined(self.means, means),
            joined(self.deviations, deviations),
            joined(self.iterations, jnp.broadcast_to(iteration, valid.shape)),
            jnp.sum(there).astype(jnp.int32),
        )


@struct.dataclass
class ReplayState:
    """All that is remembered of earlier iterations.

    Attributes:
      ring: of `Kept`.
      levels: of groups.
      objective: state of what learns from replayed responses.
      iteration: [] int32 how many there were.
    """

    ring: Ring
    levels: Levels
    objective: PyTree
    iteration: Array

    @classmethod
    def create(cls, wish: Replay, objective: PyTree, count: int, prompt_room: int, room: int) -> ReplayState:
        """Nothing yet.

        Args:
          wish: of the objective.
          objective: first state of what learns from replayed responses.
          count: N, responses of an iteration.
          prompt_room: P.
          room: T.
        """
        integers, booleans = jnp.zeros(room, jnp.int32), jnp.zeros(room, bool)
        like = Kept(
            prompts=jnp.zeros(prompt_room, jnp.int32),
            prompt_mask=jnp.zeros(prompt_room, bool),
            tokens=integers,
            there=booleans,
            mask=booleans,
            turns=integers,
            logp=jnp.zeros(room),
            rewards=jnp.zeros(()),
            advantages=jnp.zeros(()),
        )
        # Those of `age` iterations behind the newest, of it, and of the one that comes.
        ring = Ring.create((wish.age + 2) * count, like)
        return cls(ring, Levels.create(wish.means + count), objective, jnp.zeros((), jnp.int32))

    @property
    def median(self) -> Array:
        """[] of the means of groups; where there are none yet, the mean reward of the responses that are kept."""
        none = losses.masked_mean(self.ring.entries.rewards, self.ring.filled)
        return jnp.where(self.levels.count > 0, self.levels.median(self.levels.means), none)

    def ready(self, wish: Replay, size: int) -> Array:
        """[] bool: whether so many are kept, of those that count, that `size` of them are to be replayed."""
        counted = self.ring.filled & wish.counted(self.ring.entries.rewards, self.median)
        return jnp.sum(counted) > _ENOUGH * size

    def drawn(self, key: Array, wish: Replay, size: int, like: TokenBatch, rows: int) -> tuple[TokenBatch, Array]:
        """Draws responses to be replayed without replacement: a power of two of them, up to `size`; none where not ready.

        Args:
          key: [] random key.
          wish: of the objective.
          size: most of them.
          like: a batch of the same task, whose shapes they get.
          rows: of the batch that is returned, at least `size`; those drawn stand first.

        Returns:
          (batch with their new advantages [rows], there [rows] bool: which rows hold one).
        """
        entries: Kept = self.ring.entries
        advantages = wish.recalibrated(
            entries.rewards, entries.advantages, self.median, self.levels.median(self.levels.deviations)
        )
        may = self.ring.filled & wish.worth(advantages) & jnp.any(entries.mask, axis=-1)
        number = jnp.where(self.ready(wish, size), jnp.minimum(lower_power(jnp.sum(may)), size), 0)
        places = jnp.argsort(jnp.where(may, jax.random.uniform(key, may.shape), 2.0))
        places = jnp.pad(places, (0, max(rows - places.shape[0], 0)))[:rows]
        there = jnp.arange(rows) < number
        return _batch(jax.tree.map(lambda leaf: leaf[places], entries), advantages[places], there, like), there

    def after(self, wish: Replay, size: int, batch: TokenBatch) -> ReplayState:
        """After an iteration: what was replayed has been forgotten, and what the iteration brought is kept.

        Args:
          wish: of the objective.
          size: most responses that are replayed at once.
          batch: the prepared responses of the iteration.
        """
        ring = dataclasses.replace(self.ring, filled=self.ring.filled & ~self.ready(wish, size))
        newest = jnp.max(ring.steps, where=ring.filled, initial=0)
        ring = ring.without_old(newest, wish.age)
        iteration = self.iteration + 1
        groups = Grouping.of(batch)
        outcomes = jnp.where(groups.valid, batch.outcomes, 0.0)
        counts = jnp.ones_like(groups.valid) if batch.dropped is None else ~jnp.asarray(batch.dropped, bool)
        levels = self.levels.noted(
            groups.mean(outcomes), groups.deviation(outcomes), groups.first & counts, iteration, wish.means
        )
        advantages = jax.vmap(losses.masked_mean)(cast(Array, batch.advantages), batch.mask)
        wins = groups.valid & counts & (advantages > 0)
        if wish.calls:
            wins = wins & (jnp.asarray(batch.calls) > 0)
        ring = ring.pushed(_kept(batch, outcomes, advantages, self.ring.entries), wins, iteration)
        return dataclasses.replace(self, ring=ring, levels=levels, iteration=iteration)

    def metrics(self, wish: Replay, size: int) -> Metrics:
        """What there is before an iteration."""
        return {
            "replay/kept": jnp.sum(self.ring.filled).astype(jnp.float32),
            "replay/median": self.median,
            "replay/ready": self.ready(wish, size).astype(jnp.float32),
        }


def check_replay(wish: Replay, replayed: Objective, count: int, talks: bool, env: str) -> None:
    """Refuses wishes that cannot be granted.

    Args:
      wish: of an objective.
      replayed: its `Objective.replayed`.
      count: responses of an iteration.
      talks: whether the task has tools to call.
      env: its name, for the message.

    Raises:
      InvalidSettingError: nothing would ever be replayed, or its loss reads what is not kept.
    """
    size = wish.size or count
    if (wish.age + 2) * count <= _ENOUGH * size:
        raise InvalidSettingError(
            f"Nothing would ever be replayed: replay_size {size} wants more than {_ENOUGH * size:g} responses to be kept, and "
            f"the last {wish.age + 2} iterations (replay_age {wish.age}) have {(wish.age + 2) * count}."
        )
    if wish.calls and not talks:
        raise InvalidSettingError(
            f"Nothing would ever be replayed: replay_calls keeps conversations in which a tool was called, and {env} has no "
            "tools. Set replay_calls=false."
        )
    for stage in replayed.stages:
        lacking = {*stage.inputs, *stage.statistics(()), *stage.teaching(()).compared} - _COLUMNS
        if lacking:
            raise InvalidSettingError(
                f"{stage.title} needs {' and '.join(sorted(lacking))}, which is not kept with replayed responses: use "
                "another objective, or leave out replay_ settings."
            )


def lower_power(number: Array) -> Array:
    """[] int32 the largest power of two that is not above a whole number [], and 0 for 0 and 1."""
    number = jnp.asarray(number, jnp.int32)
    power = jnp.left_shift(1, 31 - jax.lax.clz(jnp.maximum(number, 1)))
    return jnp.where(number > 1, power, 0).astype(jnp.int32)


def _batch(entries: Kept, advantages: Array, there: Array, like: TokenBatch) -> TokenBatch:
    """Kept responses as a batch of the shapes of another one; rows that are not there have no tokens."""
    width, length = cast(Prompted, like.context).prompts.shape[1], like.mask.shape[1]
    present = there[:, None]
    # An empty prompt is looked at by no model without a number that is none.
    first = jnp.arange(width) < 1
    prompted = Prompted(
        jnp.where(present, entries.prompts[:, :width], 0),
        jnp.where(present, entries.prompt_mask[:, :width], first),
        entries.there[:, :length] & present,
    )
    return TokenBatch(
        logp_old=entries.logp[:, :length],
        mask=entries.mask[:, :length] & present,
        rewards=entries.rewards,
        tokens=jnp.where(present, entries.tokens[:, :length], 0),
        turns=entries.turns[:, :length],
        advantages=jnp.where(there, advantages, 0.0),
        context=prompted,
    )


def _kept(batch: TokenBatch, rewards: Array, advantages: Array, room: Any) -> Kept:
    """The responses of a prepared batch as they are kept."""
    context = cast(Prompted, batch.context)
    turns = jnp.zeros(batch.mask.shape, jnp.int32) if batch.turns is None else batch.turns

    def wide(values: Array, like: Array) -> Array:
        more = like.shape[-1] - values.shape[-1]
        if more < 0:
            raise ShapeError(
                f"Responses are kept with room for {like.shape[-1]} tokens, got {values.shape[-1]}: replay knows the prompts "
                "and the lengths of the task itself."
            )
        return jnp.pad(values, ((0, 0), (0, more)))

    there = context.response_mask
    return Kept(
        prompts=wide(context.prompts, room.prompts),
        prompt_mask=wide(context.prompt_mask, room.prompt_mask),
        tokens=wide(jnp.where(there, cast(Array, batch.tokens), 0), room.tokens),
        there=wide(there, room.there),
        mask=wide(batch.mask, room.mask),
        turns=wide(turns, room.turns),
        logp=wide(batch.logp_old, room.logp),
        rewards=rewards,
        advantages=advantages,
    )
