"""Conversations of a language model with an environment that replies, all on the device, one token after the other.

Rows are not in step with each other: at one place one row is drawn by the model and another is read out of a reply. Every
token, whoever says it, is read once through the cache, so that a conversation costs what its longest one has tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.errors import IncompatibleEnvironmentError, ShapeError
from maxent_rl.networks.transformer import Transformer, TransformerCache, init_cache
from maxent_rl.tokens.branching import Forks, Growth, unbranched
from maxent_rl.tokens.sampling import Responses, any_going, drawer, reader, to_the_end
from maxent_rl.tokens.tasks.conversation import ConversationTask, Reply, checked_reply
from maxent_rl.tokens.tasks.writing import END_TOKEN, PAD_TOKEN, fingerprint
from maxent_rl.types import PyTree

TOO_LONG, UNKNOWN = 1, 2


@struct.dataclass
class Conversations:
    """What was said, by whom, and what it earned.

    Attributes:
      said: [N, T] tokens; its mask is True on what the model said, its log-probabilities and entropies 0 elsewhere.
      there: [N, T] bool; True on what anybody said.
      turns: [N, T] int32 the turn that each token belongs to, from 0; 0 where there is none.
      turn_rewards: [N, K] float32.
      ended: [N] bool: the environment has ended it; a conversation that was cut is truncated.
      calls: [N] int32 how many of the model's turns called a tool.
      fault: [N] int32 what was wrong with the last reply, 0 for nothing: it was `TOO_LONG`, or had a token that is `UNKNOWN`.
        Such a reply ends its conversation, whose reward is then NaN, so that it teaches nothing.
      parent: [N] int32 which row it was forked from, -1 for none; None where there are no forks.
      free: [N] bool: a room that was left for a fork, and none came: there is no conversation; None likewise.
      copies: [N, T] int32 in how many conversations each token stands, as they were continued from one another; None likewise.
      anchors: [N, T] int32 equal where turns began in the same state (`ConversationTask.anchor`); None if nobody asked.
    """

    said: Responses
    there: Array
    turns: Array
    turn_rewards: Array
    ended: Array
    calls: Array
    fault: Array
    parent: Array | None = None
    free: Array | None = None
    copies: Array | None = None
    anchors: Array | None = None

    @property
    def rewards(self) -> Array:
        """[N] what each conversation earned."""
        return jnp.sum(self.turn_rewards, axis=-1)


@struct.dataclass
class _Memory:
    """By what the states are told apart that turns begin in; each field [N].

    Attributes:
      told: uint32 hash of all that was said and heard so far.
      anchor: int32 the state that the present turn began in.
    """

    told: Array
    anchor: Array

    @classmethod
    def begin(cls, task: ConversationTask[Any], environment: PyTree, count: int) -> _Memory:
        """Before the first token."""
        told = jnp.zeros(count, jnp.uint32)
        return cls(told, jax.vmap(task.anchor)(environment, told))

    def after(self, task: ConversationTask[Any], rows: _Row, tokens: Array, there: Array, begins: Array) -> _Memory:
        """After `tokens` [N], where anybody said one, `there` [N], and `rows` as they then are; some `begin` a turn, [N]."""
        told = jax.vmap(fingerprint)(jnp.stack([self.told, tokens.astype(jnp.uint32)], axis=1))
        told = jnp.where(there, told, self.told)
        return _Memory(told, jnp.where(begins, jax.vmap(task.anchor)(rows.environment, told), self.anchor))


@struct.dataclass
class _Row:
    """What is known of each conversation at a place; a leading axis [N] everywhere.

    Attributes:
      environment: its state.
      said: [N, S] of this turn so far, padded.
      length: [N] tokens of it.
      reply: [N, R] what the environment has said to the last turn.
      heard: [N] how many of its tokens have been read.
      to_hear: [N] how many there are.
      turn: [N] from 0.
      rewards: [N, K].
      going: [N] bool.
      ended: [N] bool.
      calls: [N] turns that have called a tool.
      fault: [N] as of `Conversations`.
      growth: how they have branched, or None.
      memory: of the states that turns begin in, or None.
    """

    environment: PyTree
    said: Array
    length: Array
    reply: Array
    heard: Array
    to_hear: Array
    turn: Array
    rewards: Array
    going: Array
    ended: Array
    calls: Array
    fault: Array
    growth: Growth | None
    memory: _Memory | None


@struct.dataclass
class _Spoken:
    """What was said at one place, each field [N], or at all of them.

    Attributes:
      said: by the model.
      there: [N] bool: whether anybody said anything.
      turns: [N] int32.
      anchors: [N] int32, or None.
      source: [N] int32 which row each row goes on with after it, or None.
    """

    said: Responses
    there: Array
    turns: Array
    anchors: Array | None
    source: Array | None


def converse(
    model: Transformer,
    params: Any,
    task: ConversationTask[Any],
    prompts: Array,
    prompt_mask: Array,
    key: Array,
    *,
    response_length: int | None = None,
    temperature: ArrayLike = 1.0,
    top_p: ArrayLike = 1.0,
    greedy: bool = False,
    token_temperature: Callable[[Array], Array] | None = None,
    forks: Forks | None = None,
    anchors: bool = False,
) -> Conversations:
    """Lets a model talk with the environments that prompts begin.

    Pure: jit it with `model`, `task`, `response_length` and `greedy` static, vmap it over seeds of `params` and `key`. Row n
    draws the same numbers whatever the number of rows. When all rows (of all seeds) have ended, what remains does nothing.

    Args:
      model: with the configuration of `params`.
      params: its parameters.
      task: that replies.
      prompts: [N, P] int32 of the task.
      prompt_mask: [N, P] bool; False for padding.
      key: random key.
      response_length: T, the most tokens of all turns and replies; None for the task's own; static.
      temperature: as `sample` takes it, and so all others.
      top_p: [].
      greedy: take the likeliest token instead of drawing; static.
      token_temperature: factors of the tokens' own temperatures.
      forks: when a conversation is continued twice; the rooms of a prompt stand side by side, and those that are left for
        forks are empty until one comes. None for none.
      anchors: say which turns began in the same state; static.

    Raises:
      ShapeError: if the arguments' shapes do not fit together, or replies are not as long as the task says.
      InvalidSettingError: if the temperature is a Python number that is not greater than 0.
      IncompatibleEnvironmentError: if a task that cannot be forked is to be.
    """
    length = task.response_length if response_length is None else response_length
    _check(task, len(prompts), length, forks)
    prompts, prompt_mask = to_the_end(prompts, prompt_mask)
    read = reader(model, params)
    draw = drawer(
        model, params, key, len(prompts), temperature=temperature, top_p=top_p, greedy=greedy,
        token_temperature=token_temperature,
    )  # fmt: skip
    cache = init_cache(model.config, len(prompts), prompts.shape[1] + length - 1)
    hidden, cache = read(prompts, prompt_mask, cache)
    # `fold_in` of a place is what tokens are drawn with; of no place are there so many.
    begin_key, fork_key = (jax.random.fold_in(key, 2**31 - number) for number in (1, 2))
    rows = _begun(task, prompts, jnp.any(prompt_mask, axis=-1), begin_key, forks, anchors)
    scale = float(np.log(model.config.vocabulary_size))

    def speak(cache: TransformerCache, hidden: Array, rows: _Row, place: ArrayLike) -> tuple[Any, ...]:
        """(cache, what is read next, rows) and what was said."""
        hears = rows.going & (rows.heard < rows.to_hear)
        speaks = rows.going & ~hears
        found = draw(hidden, speaks, place)
        heard = jnp.take_along_axis(rows.reply, jnp.minimum(rows.heard, task.reply_length - 1)[:, None], 1)[:, 0]
        found = dataclasses.replace(found, tokens=jnp.where(hears, heard, jnp.where(speaks, found.tokens, PAD_TOKEN)))
        anchor = None if rows.memory is None else rows.memory.anchor
        said = _Spoken(found, rows.going, jnp.where(rows.going, rows.turn, 0), anchor, None)
        after, waits = _after(task, rows, found.tokens, speaks, hears)
        last = found.tokens[:, None], rows.going[:, None]
        if forks is None or rows.growth is None:
            return (cache, last, after), said
        grown = rows.growth.heard(found.entropy, speaks, rows.length, rows.turn, scale)
        grown, source = grown.fork(forks, waits, jax.random.fold_in(fork_key, place))
        kept = _as_source_says(source, (cache, last, dataclasses.replace(after, growth=None)))
        return (kept[0], kept[1], dataclasses.replace(kept[2], growth=grown)), dataclasses.replace(said, source=source)

    return _together(*_place_by_place(read, speak, (cache, hidden, rows), length))


def _place_by_place(
    read: Callable[..., Any], speak: Callable[..., tuple[Any, ...]], begun: tuple[Any, ...], length: int
) -> tuple[_Spoken, _Row]:
    """What was said at each of `length` places [T, N], and the conversations after it; `begun` (cache, hidden, rows) [N]."""
    carry, first = speak(*begun, 0)
    nothing = jax.tree.map(jnp.zeros_like, first)
    if first.source is not None:
        nothing = dataclasses.replace(nothing, source=jnp.arange(first.there.shape[0], dtype=jnp.int32))

    def step(carry: tuple[Any, ...], place: Array) -> tuple[Any, Any]:
        def proceed(cache: TransformerCache, last: tuple[Array, Array], rows: _Row) -> tuple[Any, ...]:
            hidden, cache = read(*last, cache)
            return speak(cache, hidden, rows, place)

        def idle(cache: TransformerCache, last: tuple[Array, Array], rows: _Row) -> tuple[Any, ...]:
            return (cache, last, rows), nothing

        found: tuple[Any, Any] = jax.lax.cond(any_going(carry[2].going), proceed, idle, *carry)
        return found

    (_, _, rows), others = jax.lax.scan(step, carry, jnp.arange(1, length))
    spoken: _Spoken = jax.tree.map(lambda one, more: jnp.concatenate([one[None], more]), first, others)
    return spoken, rows


def filled(found: Conversations, again: Callable[[Array], Conversations]) -> Conversations:
    """Conversations of which rooms were left for forks that did not come, with others that begin at the prompts in these.

    Args:
      found: with forks.
      again: what is said in the rooms that are free [N], where any are: `converse` without forks, whose prompts have no
        token in all other rows.
    """
    assert found.free is not None and found.copies is not None
    free = found.free
    names = ("said", "there", "turns", "turn_rewards", "ended", "calls", "fault", "anchors")

    def fill(found: Conversations) -> Conversations:
        fresh = again(free)

        def where(old: Array, new: Array) -> Array:
            return jnp.where(free.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        kept = {name: jax.tree.map(where, getattr(found, name), getattr(fresh, name)) for name in names}
        return dataclasses.replace(found, **kept)

    kept: Conversations = jax.lax.cond(any_going(free), fill, lambda same: same, found)
    return dataclasses.replace(kept, free=jnp.zeros_like(free))


def _as_source_says(source: Array, kept: Any) -> Any:
    """What is kept of N conversations, each as that of its `source` [N]; nothing is moved where all are their own."""

    def copied(kept: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[source] if leaf.ndim else leaf, kept)

    own = jnp.arange(source.shape[0], dtype=source.dtype)
    return jax.lax.cond(any_going(source != own), copied, lambda kept: kept, kept)


def _together(spoken: _Spoken, rows: _Row) -> Conversations:
    """The conversations [N, T] of what was said at each place [T, N]; a fork has what its parent said before it."""
    copies = None
    if spoken.source is not None:
        held = unbranched(spoken.source)
        copies = jax.vmap(lambda rows: jnp.zeros(rows.shape, jnp.int32).at[rows].add(1)[rows])(held).T
        spoken = jax.tree.map(
            lambda leaf: jnp.take_along_axis(leaf, held, axis=1), dataclasses.replace(spoken, source=None)
        )
    spoken = jax.tree.map(lambda leaf: leaf.T, spoken)
    growth = rows.growth
    return Conversations(
        said=spoken.said,
        there=spoken.there,
        turns=spoken.turns,
        turn_rewards=rows.rewards,
        ended=rows.ended,
        calls=rows.calls,
        fault=rows.fault,
        parent=None if growth is None else growth.parent,
        free=None if growth is None else growth.free,
        copies=copies,
        anchors=spoken.anchors,
    )


def _check(task: ConversationTask[Any], count: int, length: int, forks: Forks | None) -> None:
    if forks is not None and not task.forkable:
        raise IncompatibleEnvironmentError(
            f"A conversation with {task.name} cannot be forked: its environment is Python beside the program, and both "
            "branches would talk to one and the same. Leave forks out (fork_conversations=false of an objective), or write "
            "the task in JAX."
        )
    if length < 1:
        raise ShapeError(f"A conversation needs room for at least one token, got response_length={length}.")
    if forks is not None and count % forks.size:
        raise ShapeError(f"{count} rows are no whole prompts of {forks.size} conversations that may fork.")


def _begun(
    task: ConversationTask[Any], prompts: Array, asked: Array, key: Array, forks: Forks | None, anchors: bool
) -> _Row:
    """Before the first token; rows that are not `asked` [N] have ended from the start."""
    count = len(prompts)
    nothing = jnp.zeros(count, jnp.int32)

    def begin(prompt: Array, row: Array) -> PyTree:
        return task.begin(task.read(prompt), jax.random.fold_in(key, row))

    growth = None if forks is None else Growth.begin(forks, count)
    environment = jax.vmap(begin)(prompts, jnp.arange(count))
    return _Row(
        environment=environment,
        said=jnp.full((count, task.turn_length), PAD_TOKEN, jnp.int32),
        length=nothing,
        reply=jnp.full((count, task.reply_length), PAD_TOKEN, jnp.int32),
        heard=nothing,
        to_hear=nothing,
        turn=nothing,
        rewards=jnp.zeros((count, task.max_turns)),
        going=asked if growth is None else asked & ~growth.free,
        ended=jnp.zeros(count, bool),
        calls=nothing,
        fault=nothing,
        growth=growth,
        memory=_Memory.begin(task, environment, count) if anchors else None,
    )


def _after(task: ConversationTask[Any], rows: _Row, tokens: Array, speaks: Array, hears: Array) -> tuple[_Row, Array]:
    """The conversations once `tokens` [N] have been said, by the model where it `speaks`, or by the environment.

    Beside them, which have just been replied to and go on, [N].
    """
    place = jnp.arange(task.turn_length) == rows.length[:, None]
    said = jnp.where(place & speaks[:, None], tokens[:, None], rows.said)
    length = rows.length + speaks
    done = speaks & ((tokens == END_TOKEN) | (length == task.turn_length))
    heard = rows.heard + hears
    # Whoever has heard all of a reply begins a turn.
    begun_turn, begins = rows.turn, hears & (heard == rows.to_hear)
    rows = dataclasses.replace(rows, said=said, length=length, heard=heard, turn=rows.turn + begins)

    def replied(rows: _Row) -> tuple[_Row, Array]:
        found = checked_reply(task, task.replies(rows.environment, rows.said, rows.length, done))

        def where(new: Array, old: Array) -> Array:
            return jnp.where(done.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        fault = jnp.where(done & ~found.ended, _fault(task, found), 0)
        ended = done & (found.ended | (fault > 0))
        reward = jnp.where(fault > 0, jnp.nan, found.reward)[:, None]
        cut = done & ~ended & (rows.turn + 1 == task.max_turns)
        to_hear = jnp.clip(found.length, 0, task.reply_length)
        goes_on = done & ~ended & ~cut
        earned = (jnp.arange(task.max_turns) == rows.turn[:, None]) & done[:, None]
        after = dataclasses.replace(
            rows,
            environment=jax.tree.map(where, found.state, rows.environment),
            said=where(jnp.full_like(rows.said, PAD_TOKEN), rows.said),
            length=where(jnp.zeros_like(rows.length), rows.length),
            reply=where(found.tokens.astype(jnp.int32), rows.reply),
            heard=where(jnp.zeros_like(rows.heard), rows.heard),
            to_hear=where(jnp.where(goes_on, to_hear, 0), rows.to_hear),
            turn=rows.turn + (goes_on & (to_hear == 0)),
            rewards=rows.rewards + jnp.where(earned, reward, 0.0),
            going=rows.going & ~ended & ~cut,
            ended=rows.ended | ended,
            fault=jnp.maximum(rows.fault, fault),
            calls=rows.calls + (done & jax.vmap(task.calls)(rows.said, rows.length)),
        )
        return after, goes_on

    memory = rows.memory
    found: tuple[_Row, Array] = jax.lax.cond(any_going(done), replied, lambda rows: (rows, jnp.zeros_like(done)), rows)
    if memory is None:
        return found
    after, waits = found
    memory = memory.after(task, after, tokens, speaks | hears, after.turn != begun_turn)
    return dataclasses.replace(after, memory=memory), waits


def _fault(task: ConversationTask[Any], replies: Reply) -> Array:
    """[N] what is wrong with replies, as `Conversations` says it."""
    tokens = replies.tokens
    heard = jnp.arange(tokens.shape[-1]) < replies.length[:, None]
    known = (tokens >= 0) & (tokens < task.vocabulary_size)
    strange = jnp.where(jnp.all(known | ~heard, axis=-1), 0, UNKNOWN)
    return jnp.where(replies.length > task.reply_length, TOO_LONG, strange)
