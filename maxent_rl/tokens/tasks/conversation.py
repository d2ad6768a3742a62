"""What a task of several turns is: the model says something, its environment replies, until one of them ends it.

A turn is what the model says up to and including an end token (or until its room is spent) and what the environment says to
that. What the environment says is read by the model like a prompt: no loss, entropy or advantage ever counts it.
"""

from __future__ import annotations

import abc
from functools import partial
from typing import Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.errors import IncompatibleEnvironmentError, ShapeError
from maxent_rl.tokens.tasks.base import Problem, TokenTask
from maxent_rl.tokens.tasks.writing import END_TOKEN, PAD_TOKEN, fingerprint, join, response_mask
from maxent_rl.types import Array, PyTree


@struct.dataclass
class Reply:
    """What an environment says to one turn.

    Attributes:
      state: of the environment from now on.
      tokens: [R] int32, the reply first and then anything.
      length: [] int32 how many of them are said; the conversation goes on after none, too.
      reward: [] float32 for this turn.
      ended: [] bool: nothing is left to say. What is said with it is read by nobody, and left out.
    """

    state: PyTree
    tokens: Array
    length: Array
    reward: Array
    ended: Array


@struct.dataclass
class Transcript:
    """What was said in conversations, one after the other as a model reads it.

    Attributes:
      tokens: [..., T] int32, padded on the right.
      mask: [..., T] bool; True on what the model said.
      there: [..., T] bool; True on what anybody said.
      turns: [..., T] int32 which turn a token belongs to, from 0; 0 beyond the end.
      turn_rewards: [..., K] float32 what each turn earned.
      ended: [...] bool: the environment has ended it; otherwise it was cut.
    """

    tokens: Array
    mask: Array
    there: Array
    turns: Array
    turn_rewards: Array
    ended: Array


class ConversationTask(TokenTask[Problem]):
    """A task that replies. Subclasses are frozen dataclasses of their sizes, as of any task, and pure JAX.

    Shapes: S tokens at most of a turn of the model, R at most of a reply, K turns at most, T tokens of all of them.
    A conversation that has had its K turns, or its T tokens, without having been ended is cut: truncated, not terminated.

    What turns earn depends on what was said in all of them. So no response is checked by itself: `reward`, `answers` and
    `candidates`, which tasks of one turn have, are refused.
    """

    forkable: ClassVar[bool] = True
    """Whether a conversation can be continued twice: all that its environment is, is in its state."""

    @property
    @abc.abstractmethod
    def turn_length(self) -> int:
        """S, the most tokens that the model may say at once, its end token included."""

    @property
    @abc.abstractmethod
    def reply_length(self) -> int:
        """R, the most tokens of a reply, at least one."""

    @property
    @abc.abstractmethod
    def max_turns(self) -> int:
        """K, turns after which a conversation is cut."""

    @property
    def response_length(self) -> int:
        """T, room for as many turns as there may be, each as long as it may be, with replies to all but the last."""
        return self.max_turns * self.turn_length + (self.max_turns - 1) * self.reply_length

    @abc.abstractmethod
    def begin(self, problem: Problem, key: Array) -> PyTree:
        """The environment's state before the first turn: a pytree of arrays; with a random key [] of this conversation."""

    @abc.abstractmethod
    def reply(self, state: PyTree, said: Array, length: Array) -> Reply:
        """What the environment says to a turn.

        Args:
          state: as `begin`, or the reply before, has given it.
          said: [S] int32 what the model said in this turn, its end token included; padding beyond.
          length: [] int32 how many tokens that are; a turn without an end token has used up its room.
        """

    def replies(self, state: PyTree, said: Array, length: Array, asked: Array) -> Reply:
        """What environments say to the turns of many conversations, [N, ...] everywhere; only the `asked` [N] count."""
        found: Reply = jax.vmap(self.reply)(state, said, length)
        return found

    def anchor(self, state: PyTree, told: Array) -> Array:
        """In which state a turn begins: [] int32, equal for turns of conversations about one prompt that begin in the same.

        Of all that was said and heard so far, if a task does not say that less matters, such as where somebody stands.

        Args:
          state: of the environment.
          told: [] uint32 hash of all that was said and heard.
        """
        return jax.lax.bitcast_convert_type(told, jnp.int32)

    def calls(self, said: Array, length: Array) -> Array:
        """[] bool: whether a turn of the model calls a tool, be it of use or not; never, of a task without tools.

        Args:
          said: [S] int32 as `reply` takes it.
          length: [] int32.
        """
        return jnp.zeros((), bool)

    def reward_parts(self, prompts: Array, turn_rewards: Array) -> Array:
        """[N, P] what conversations earned, by whatever parts the task has; by turn, where it says no others.

        Args:
          prompts: [N, ...] that began them.
          turn_rewards: [N, K] of each turn, whose sum is that of the parts.
        """
        return turn_rewards

    @abc.abstractmethod
    def lines(self, key: Array | None, problem: Problem) -> tuple[Array, Array]:
        """What a model might say, turn by turn.

        Args:
          key: [] random key, to be imitated in a warm start: perhaps one of several ways, which need not be right; None for a
            way that earns the most.
          problem: one.

        Returns:
          (tokens [K, S] int32, each turn with its end token and padding after it; number [] int32 of turns).
        """

    def transcripts(self, key: Array, prompts: Array) -> Transcript:
        """Conversations of `lines` with the environment, to be imitated.

        Args:
          key: [] random key.
          prompts: [N, P].
        """
        found: Transcript = _transcripts(self, key, prompts)
        return found

    def demonstrations(self, key: Array, prompts: Array) -> tuple[Array, Array]:
        """Transcripts [N, T], and where the model has said what stands there [N, T]."""
        found = self.transcripts(key, prompts)
        return found.tokens, found.mask

    def reward(self, prompts: Array, responses: Array, mask: Array) -> NoReturn:
        """Refused: IncompatibleEnvironmentError."""
        self._refuse()

    def answers(self, prompts: Array) -> NoReturn:
        """Refused: IncompatibleEnvironmentError."""
        self._refuse()

    def candidates(self, problem: Problem) -> NoReturn:
        """Refused: IncompatibleEnvironmentError."""
        self._refuse()

    def answer(self, problem: Problem, response: Array) -> Array:
        """[] int32: what the model said last, up to its last end token; -1 where it did not come to an end.

        Args:
          problem: one.
          response: [T'] with padding wherever the model has said nothing.
        """
        place, ends = jnp.arange(response.shape[0]), response == END_TOKEN
        last = jnp.max(jnp.where(ends, place, -1))
        before = jnp.max(jnp.where(ends & (place < last), place, -1))
        said = join([(response, (place > before) & (place <= last) & (response != PAD_TOKEN))])
        whole = (last >= 0) & ~jnp.any((place > last) & (response != PAD_TOKEN))
        return jnp.where(whole, (fingerprint(said) & jnp.uint32(0x7FFFFFFF)).astype(jnp.int32), -1)

    def _refuse(self) -> NoReturn:
        raise IncompatibleEnvironmentError(
            f"{self.name} replies, and what a turn earns depends on what was said before: no response to it can be checked or "
            "listed by itself. Let a model converse (tokens.conversing.converse), or lines be spoken (`spoken`)."
        )

    def spoken(self, key: Array, problem: Problem, lines: Array, number: Array) -> Transcript:
        """The conversation [T] in which a model says these lines [K, S], of which there are `number` []."""

        def turn(carry: tuple[PyTree, Array], given: tuple[Array, Array]) -> tuple[Any, Any]:
            state, going = carry
            line, index = given
            going = going & (index < number)
            said = response_mask(line) & (line != PAD_TOKEN)
            heard = checked_reply(self, self.reply(state, line, jnp.sum(said)))
            goes_on = going & ~heard.ended
            heard_at = jnp.arange(self.reply_length) < jnp.where(
                goes_on & (index + 1 < self.max_turns), heard.length, 0
            )
            reward = jnp.where(going, heard.reward, 0.0).astype(jnp.float32)
            return (heard.state, goes_on), (said & going, heard.tokens, heard_at, reward, going & heard.ended)

        given = lines, jnp.arange(self.max_turns)
        _, (said, replies, heard, rewards, ends) = jax.lax.scan(turn, (self.begin(problem, key), number > 0), given)
        tokens = jnp.concatenate([lines, replies], axis=1).ravel()
        shown = jnp.concatenate([said, heard], axis=1)
        own = jnp.concatenate([said, jnp.zeros_like(heard)], axis=1).ravel()
        turns = jnp.broadcast_to(jnp.arange(self.max_turns)[:, None], shown.shape).ravel()

        def joined(values: Array) -> Array:
            return join([(values, shown.ravel())])[: self.response_length]

        return Transcript(
            tokens=joined(tokens),
            mask=joined(own.astype(jnp.int32)) > 0,
            there=joined(jnp.ones_like(turns)) > 0,
            turns=joined(turns),
            turn_rewards=rewards,
            ended=jnp.any(ends),
        )


def checked_reply(task: ConversationTask[Any], reply: Reply) -> Reply:
    """The reply, or of many conversations the replies, if there are as many tokens as the task says.

    Raises:
      ShapeError: it has room for another number of tokens.
    """
    if reply.tokens.shape[-1:] != (task.reply_length,):
        raise ShapeError(
            f"{task.name} must reply with tokens [{task.reply_length}], padded to its reply_length, in every turn of every "
            f"episode; got {list(reply.tokens.shape)}."
        )
    return reply


@partial(jax.jit, static_argnames="task")
def _transcripts(task: ConversationTask[Any], key: Array, prompts: Array) -> Transcript:
    def one(key: Array, prompt: Array) -> Transcript:
        problem = task.read(prompt)
        begin_key, lines_key = jax.random.split(key)
        return task.spoken(begin_key, problem, *task.lines(lines_key, problem))

    return jax.vmap(one)(jax.random.split(key, prompts.shape[0]), prompts)
