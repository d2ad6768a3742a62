"""Conversations with an environment in plain Python: a tool, a simulator, a Gymnasium environment told as text.

The model answers all conversations on the device at once; where turns have ended, one call brings them all to the host, and
their replies back. An environment that raises, or does not answer in time, ends its own episode, whose reward is NaN: it
counts in no statistic and teaches nothing, and everybody else goes on.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Interval, Positive
from maxent_rl.tokens.tasks.conversation import ConversationTask, Reply
from maxent_rl.tokens.tasks.writing import PAD_TOKEN
from maxent_rl.types import Array

_KEPT = 100_000  # episodes whose environments may be open at once; the oldest are let go


class Partner(Protocol):
    """One episode of an environment that reads and writes text."""

    def reply(self, said: str) -> tuple[str, float, bool]:
        """What it says to a turn, what the turn earns, and whether the episode is over."""
        ...


class Posed(NamedTuple):
    """Which of the prompts, [] int32."""

    which: Array


class Episode(NamedTuple):
    """Which prompt, which episode (two random words), and how many turns it has had; [], [2] and []."""

    which: Array
    name: Array
    turn: Array


@dataclasses.dataclass(frozen=True)
class HostedTask(ConversationTask[Posed]):
    """A task of several turns whose environment is Python.

    It is a static argument of jitted programs by its identity: make one, and keep it.

    Attributes:
      open: makes the partner of one episode, of its prompt and a seed: `open("3+5", 17)`. It is called in a thread.
      texts: the prompts; about one in eight is held out of training.
      alphabet: the characters of prompts, turns and replies; a reply with another one ends its episode.
      turn_room: S, the most tokens of a turn.
      reply_room: R, the most tokens of a reply; what is longer is cut, and counted.
      most_turns: K.
      seconds: that a partner has for one reply.
      threads: partners that are asked at once.
    """

    open: Callable[[str, int], Partner]
    texts: tuple[str, ...]
    alphabet: str
    turn_room: Annotated[int, Interval(1)] = 8
    reply_room: Annotated[int, Interval(1)] = 8
    most_turns: Annotated[int, Interval(1)] = 4
    seconds: Positive = 10.0
    threads: Annotated[int, Interval(1)] = 8

    forkable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Checks that there are prompts, and characters for them.

        Raises:
          InvalidSettingError: there are none, or a prompt has a character that is not in the alphabet.
        """
        super().__post_init__()
        if not all(self.texts):
            raise InvalidSettingError("A task needs prompts, each with at least one character.")
        for text in self.texts:
            self.encode(text)
        object.__setattr__(self, "_desk", _Desk(self))

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    @property
    def name(self) -> str:
        """The task's name."""
        return "hosted"

    @property
    def characters(self) -> str:
        """The alphabet."""
        return self.alphabet

    @property
    def prompt_length(self) -> int:
        """The longest prompt."""
        return max(map(len, self.texts))

    @property
    def turn_length(self) -> int:
        """Tokens of a turn."""
        return self.turn_room

    @property
    def reply_length(self) -> int:
        """Tokens of a reply."""
        return self.reply_room

    @property
    def max_turns(self) -> int:
        """Turns."""
        return self.most_turns

    @property
    def faults(self) -> list[str]:
        """One sentence for each episode that a partner has ended by a fault, and each reply that was cut, the newest 100."""
        return list(self._desk.faults)  # type: ignore[attr-defined]

    def draw(self, key: Array) -> tuple[Posed, Array]:
        """Any of the prompts."""
        return Posed(jax.random.randint(key, (), 0, len(self.texts))), jnp.ones((), bool)

    def write(self, problem: Posed) -> Array:
        """The prompt."""
        return jnp.asarray(self._table)[problem.which]

    def read(self, prompt: Array) -> Posed:
        """Which prompt it is."""
        return Posed(jnp.argmax(jnp.all(jnp.asarray(self._table) == prompt, axis=-1)).astype(jnp.int32))

    def identity(self, problem: Posed) -> Array:
        """The prompt's tokens, so that equal prompts are never divided."""
        return self.write(problem)

    def begin(self, problem: Posed, key: Array) -> Episode:
        """An episode with a name of its own."""
        return Episode(problem.which, jax.random.bits(key, (2,), "uint32"), jnp.zeros((), jnp.int32))

    def reply(self, state: Episode, said: Array, length: Array) -> Reply:
        """Asks the partner of one episode."""
        state, said, length = jax.tree.map(lambda leaf: leaf[None], (state, said, length))
        found: Reply = jax.tree.map(lambda leaf: leaf[0], self.replies(state, said, length, jnp.ones(1, bool)))
        return found

    def replies(self, state: Episode, said: Array, length: Array, asked: Array) -> Reply:
        """Asks the partners of those episodes that are `asked` [N]; of all seeds in one call."""
        shapes = (
            jnp.zeros((*said.shape[:-1], self.reply_room), jnp.int32),
            jnp.zeros(length.shape, jnp.int32),
            jnp.zeros(length.shape, jnp.float32),
            jnp.zeros(length.shape, bool),
        )
        # It is pure in this sense: the same turn of the same episode, asked again, is answered from memory.
        found = jax.pure_callback(
            self._desk.answer,  # type: ignore[attr-defined]
            shapes,
            *state,
            said,
            length,
            asked,
            vmap_method="broadcast_all",
        )
        return Reply(state._replace(turn=state.turn + 1), *found)

    def lines(self, key: Array | None, problem: Posed) -> tuple[Array, Array]:
        """Nobody knows what would be right to say: no lines."""
        return jnp.full((self.most_turns, self.turn_room), PAD_TOKEN, jnp.int32), jnp.zeros((), jnp.int32)

    @property
    def _table(self) -> np.ndarray:
        return self.encode_prompts(self.texts)


@dataclasses.dataclass
class _Open:
    """The partner of an episode, what it said last, and to which turn."""

    partner: Partner | None
    turn: int = -1
    last: tuple[str, float, bool] = ("", 0.0, False)


class _Desk:
    """Knows the partners of all episodes that are open, and asks them."""

    def __init__(self, task: HostedTask) -> None:
        self._task, self._lock = task, threading.Lock()
        self._episodes: OrderedDict[tuple[int, ...], _Open] = OrderedDict()
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self.faults: list[str] = []

    def answer(self, *given: Any) -> tuple[np.ndarray, ...]:
        """Tokens [..., R], lengths, rewards and ends [...] for episodes [...]; nothing for those that are not asked."""
        which, name, turn, said, length, asked = map(np.asarray, given)
        shape = asked.shape
        tokens = np.full((asked.size, self._task.reply_room), PAD_TOKEN, np.int32)
        lengths, rewards = np.zeros(asked.size, np.int32), np.zeros(asked.size, np.float32)
        ends = np.zeros(asked.size, bool)
        name, said = name.reshape(-1, 2), said.reshape(-1, said.shape[-1])
        which, turn, length = (values.reshape(-1) for values in (which, turn, length))
        rows = np.flatnonzero(asked)
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(self._task.threads, "partner")
        waiting = {}
        for row in rows:
            text = self._task.decode(said[row, : length[row]])
            episode = int(which[row]), *map(int, name[row])
            waiting[row] = self._pool.submit(self._ask, episode, int(turn[row]), text)
        for row, future in waiting.items():
            label = f"episode {int(name[row, 0]):08x}, turn {int(turn[row])}"
            text, rewards[row], ends[row] = self._result(future, label)
            encoded = self._encoded(text, label)
            if encoded is None:
                rewards[row], ends[row] = np.nan, True
            else:
                lengths[row] = len(encoded)
                tokens[row, : len(encoded)] = encoded
        return tokens.reshape(*shape, -1), lengths.reshape(shape), rewards.reshape(shape), ends.reshape(shape)

    def _ask(self, episode: tuple[int, ...], turn: int, said: str) -> tuple[str, float, bool]:
        with self._lock:
            found = self._episodes.setdefault(episode, _Open(None))
            while len(self._episodes) > _KEPT:
                self._episodes.popitem(last=False)
        if found.turn == turn:  # asked again
            return found.last
        if found.partner is None:
            found.partner = self._task.open(self._task.texts[episode[0]], episode[1])
        text, reward, ended = found.partner.reply(said)
        found.turn, found.last = turn, (str(text), float(reward), bool(ended))
        if ended:
            found.partner = None
        return found.last

    def _result(self, future: concurrent.futures.Future[Any], label: str) -> tuple[str, float, bool]:
        try:
            text, reward, ended = future.result(timeout=self._task.seconds)
        except concurrent.futures.TimeoutError:
            future.cancel()
            self._note(f"The environment of {label} did not reply within {self._task.seconds:g} s.")
        except Exception as error:
            self._note(f"The environment of {label} raised {type(error).__name__}: {error}.")
        else:
            if np.isfinite(reward):
                return text, reward, ended
            self._note(f"The environment of {label} gave the reward {reward}.")
        return "", float("nan"), True

    def _encoded(self, text: str, label: str) -> np.ndarray | None:
        try:
            tokens = self._task.encode(text)
        except InvalidSettingError as error:
            self._note(f"The reply of {label} cannot be told: {error}")
            return None
        if len(tokens) > self._task.reply_room:
            self._note(f"The reply of {label} has {len(tokens)} tokens and was cut to {self._task.reply_room}.")
        return tokens[: self._task.reply_room]

    def _note(self, sentence: str) -> None:
        warnings.warn(sentence, RuntimeWarning, stacklevel=2)
        self.faults = [*self.faults[-99:], sentence]
