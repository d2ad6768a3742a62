"""What a token task is: problems drawn at random, written as a prompt, with a checker that is exact.

A task is a frozen dataclass of its sizes, so it is hashable and a static argument of jitted programs. Its text is tokenised by
character: token 0 is padding, token 1 ends a response, and then one token for each of `characters`. Everything that
computes is pure JAX, without host callbacks.

A task of one's own says how one problem is drawn, written, read and answered; the batches, the split into training and
held-out problems and the choice among right answers are here.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Settings, check_settings
from maxent_rl.tokens.tasks.template import Template
from maxent_rl.tokens.tasks.writing import END_TOKEN, PAD_TOKEN, fingerprint, response_mask
from maxent_rl.types import Array

HELD_OUT_ONE_IN = 8

Problem = TypeVar("Problem")
"""What one prompt poses: a NamedTuple of integer arrays."""


class TokenTask(Settings, abc.ABC, Generic[Problem]):
    """A source of prompts with a checker of responses. Subclasses are frozen dataclasses whose fields are their sizes.

    Shapes: N prompts of P tokens, responses of T tokens, V tokens in the vocabulary.
    """

    pad_token = PAD_TOKEN
    end_token = END_TOKEN

    def __post_init__(self) -> None:
        """Checks the sizes.

        Raises:
          InvalidSettingError: a size out of its bounds.
        """
        check_settings(self)

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What the task is called in `make_task`."""

    @property
    @abc.abstractmethod
    def characters(self) -> str:
        """The characters of prompts and responses; digits, where there are any, are the first ten."""

    @property
    @abc.abstractmethod
    def prompt_length(self) -> int:
        """P, tokens of a prompt with its padding."""

    @property
    @abc.abstractmethod
    def response_length(self) -> int:
        """T, the most tokens that a right answer can need, its end token included."""

    @property
    def vocabulary_size(self) -> int:
        """V: padding, end of response, and the characters."""
        return 2 + len(self.characters)

    @property
    def templates(self) -> tuple[Template, ...]:
        """Ways to pose its problems that the task itself knows, in which `demonstrations` then answers; none for most."""
        return ()

    @property
    def synonyms(self) -> tuple[Template, ...]:
        """Ways to pose its problems that all ask for the same form of answer; none for most."""
        return ()

    def prompts(self, key: Array, count: int, held_out: bool = False) -> tuple[Array, Array]:
        """Draws prompts, each from a key of its own.

        Whether a problem is a training problem or a held-out one follows from a fixed hash of it (`is_held_out`), so that
        the two never meet, in whatever order and with whatever seed they are drawn.

        Args:
          key: [] random key.
          count: N, how many.
          held_out: whether they are held-out problems.

        Returns:
          (tokens [N, P] int32, padded on the left; mask [N, P] bool, False at padding).
        """
        drawn: tuple[Array, Array] = _prompts(self, key, count, held_out)
        return drawn

    def is_held_out(self, prompts: Array) -> Array:
        """[N] bool: whether prompts [N, P] pose held-out problems, of which about one in eight is one."""
        held_out: Array = _is_held_out(self, prompts)
        return held_out

    def reward(self, prompts: Array, responses: Array, mask: Array) -> Array:
        """Checks responses: exactly one right answer and the end token, and nothing before, between or after.

        Tasks with room for free text before the answer say so. A response that never ends is wrong. What stands at positions
        outside the mask does not matter.

        Args:
          prompts: [N, P] as `prompts` gives them.
          responses: [N, T'] tokens; T' need not be `response_length`.
          mask: [N, T'] nonzero up to and including the end token, as in `response_mask`.

        Returns:
          [N] float32, 1 for right (or what `worth` says) and 0 for wrong.
        """
        reward: Array = _reward(self, prompts, responses, mask)
        return reward

    def parsed(self, prompts: Array, responses: Array, mask: Array) -> Array:
        """[N] int32 final answers: equal for the same answer to a prompt however it is written, below 0 where there is none.

        Args:
          prompts: [N, P].
          responses: [N, T'] tokens.
          mask: [N, T'] as for `reward`.
        """
        answers: Array = _parsed(self, prompts, responses, mask)
        return answers

    def apart(self, responses: Array, mask: Array) -> Array:
        """[N, T'] bool: tokens that are no part of the answer, and are rewarded apart from it; none for most tasks."""
        return jnp.zeros(responses.shape, bool)

    def problems(self, prompts: Array) -> Array:
        """[N] int32: equal for prompts that pose the same problem (`identity`), by a hash."""
        found: Array = _of_prompts(self, prompts, "fingerprint")
        return found

    def kinds(self, prompts: Array) -> Array:
        """[N] int32: which task of a mixture each prompt is of; 0 for a task alone."""
        found: Array = _of_prompts(self, prompts, "kind")
        return found

    def difficulties(self, prompts: Array) -> Array:
        """[N] float32: how hard each prompt is, in the task's own unit; 0 where it has none."""
        found: Array = _of_prompts(self, prompts, "difficulty")
        return found

    def demonstrations(self, key: Array, prompts: Array) -> tuple[Array, Array]:
        """Draws one right answer for each prompt, all right answers being equally likely.

        Args:
          key: [] random key.
          prompts: [N, P].

        Returns:
          (responses [N, T] int32, mask [N, T] bool, True up to and including the end token). A prompt without a right
          answer (`prompts` never gives one) gets an empty response: padding, and a mask that is all False.
        """
        drawn: tuple[Array, Array] = _demonstrations(self, key, prompts)
        return drawn

    def answers(self, prompts: Array) -> tuple[Array, Array]:
        """Enumerates the right answers of each prompt, among A candidates.

        Args:
          prompts: [N, P].

        Returns:
          (responses [N, A, T] int32, right [N, A] bool). Those that are right differ from each other and are all there are.
        """
        enumerated: tuple[Array, Array] = _answers(self, prompts)
        return enumerated

    def encode(self, text: str) -> np.ndarray:
        """[len(text)] int32 tokens of a text, without padding or end.

        Raises:
          InvalidSettingError: a character that the task does not have.
        """
        unknown = sorted(set(text) - set(self.characters))
        if unknown:
            raise InvalidSettingError(
                f"{self.name} has no character {unknown[0]!r}; its characters are {self.characters!r}."
            )
        return np.array([2 + self.characters.index(character) for character in text], np.int32)

    def encode_prompts(self, texts: Sequence[str]) -> np.ndarray:
        """[N, P] int32 tokens of prompts, padded on the left.

        Raises:
          InvalidSettingError: a character that the task does not have, or a text longer than `prompt_length`.
        """
        rows = [np.pad(self.encode(text), (self._room(text, "prompt"), 0)) for text in texts]
        return np.array(rows, np.int32).reshape(-1, self.prompt_length)

    def encode_responses(self, texts: Sequence[str]) -> np.ndarray:
        """[N, T] int32 tokens of responses, each with its end token and padding after that.

        Raises:
          InvalidSettingError: a character that the task does not have, or a text without room for the end token.
        """
        rows = [
            np.pad(np.append(self.encode(text), END_TOKEN), (0, self._room(text, "response") - 1)) for text in texts
        ]
        return np.array(rows, np.int32).reshape(-1, self.response_length)

    def decode(self, tokens: Any) -> str:
        """The text of tokens [length], up to the end token if there is one; padding is left out.

        Raises:
          InvalidSettingError: a token outside the vocabulary.
        """
        text = ""
        for token in np.asarray(tokens).astype(np.int64).tolist():
            if not 0 <= token < self.vocabulary_size:
                raise InvalidSettingError(f"{self.name} has tokens from 0 to {self.vocabulary_size - 1}, got {token}.")
            if token == END_TOKEN:
                break
            text += self.characters[token - 2] if token != PAD_TOKEN else ""
        return text

    def _room(self, text: str, kind: str) -> int:
        """Tokens that a text leaves free, of a prompt, or of a response, which needs one for its end."""
        length, needed = (self.prompt_length, 0) if kind == "prompt" else (self.response_length, 1)
        if len(text) + needed > length:
            raise InvalidSettingError(f"{text!r} is too long for a {kind} of {self.name}, which has {length} tokens.")
        return length - len(text)

    # What a task says of one problem; everything above is these, for many.

    @abc.abstractmethod
    def draw(self, key: Array) -> tuple[Problem, Array]:
        """Draws a problem of either split; with [] bool, whether it is one to pose (if not, another is drawn)."""

    @abc.abstractmethod
    def write(self, problem: Problem) -> Array:
        """The prompt [P] that poses a problem."""

    @abc.abstractmethod
    def read(self, prompt: Array) -> Problem:
        """The problem that a prompt [P] poses; the inverse of `write`."""

    @abc.abstractmethod
    def identity(self, problem: Problem) -> Array:
        """[any] int32 that is the same for problems that must not be divided between training and held-out ones."""

    @abc.abstractmethod
    def candidates(self, problem: Problem) -> tuple[Array, Array]:
        """(responses [A, T], right [A] bool): all right answers, each once, and perhaps others."""

    def is_right(self, problem: Problem, response: Array) -> Array:
        """[] bool: whether a response [T'], of which all after the end token is padding, is a right answer."""
        responses, right = self.candidates(problem)
        shorter = response.shape[0] - self.response_length
        responses = jnp.pad(responses, ((0, 0), (0, max(shorter, 0))))
        response = jnp.pad(response, (0, max(-shorter, 0)))
        return jnp.any(right & jnp.all(responses == response, axis=-1))

    def answer(self, problem: Problem, response: Array) -> Array:
        """[] int32: the final answer of a response [T'], of which all after the end token is padding; -1 for none.

        Where a task does not say what it is, it is the whole response.
        """
        ended = jnp.any(response == END_TOKEN)
        return (
            jnp.where(ended, fingerprint(response) & jnp.uint32(0x7FFFFFFF), jnp.uint32(0)).astype(jnp.int32) - ~ended
        )

    def worth(self, problem: Problem) -> Array | float:
        """[] what a right answer to the problem is rewarded with."""
        return 1.0

    def difficulty(self, problem: Problem) -> Array:
        """[] float32: how hard the problem is."""
        return jnp.zeros(())

    def kind(self, problem: Problem) -> Array:
        """[] int32: which task of a mixture the problem is of."""
        return jnp.zeros((), jnp.int32)

    def fingerprint(self, problem: Problem) -> Array:
        """[] int32 hash of the problem's identity."""
        return fingerprint(self.identity(problem)).astype(jnp.int32)


# Jitted here, with the task as a static argument: called one by one, the loop that draws would compile at every call.


@partial(jax.jit, static_argnames=("task", "count", "held_out"))
def _prompts(task: TokenTask[Any], key: Array, count: int, held_out: bool) -> tuple[Array, Array]:
    def attempt(attempted: tuple[Array, Any, Array]) -> tuple[Array, Any, Array]:
        key, draw_key = jax.random.split(attempted[0])
        problem, possible = task.draw(draw_key)
        return key, problem, possible & (_held_out(task, problem) == held_out)

    def prompt(key: Array) -> Array:
        # Begun with a problem of zeros rather than with a first attempt, which would be compiled a second time.
        none = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(task.draw, key)[0])
        _, problem, _ = jax.lax.while_loop(lambda attempted: ~attempted[2], attempt, (key, none, jnp.zeros((), bool)))
        return task.write(problem)

    tokens = jax.vmap(prompt)(jax.random.split(key, count))
    return tokens, tokens != PAD_TOKEN


@partial(jax.jit, static_argnames="task")
def _is_held_out(task: TokenTask[Any], prompts: Array) -> Array:
    return jax.vmap(lambda prompt: _held_out(task, task.read(prompt)))(prompts)


@partial(jax.jit, static_argnames="task")
def _reward(task: TokenTask[Any], prompts: Array, responses: Array, mask: Array) -> Array:
    # Padding is no character, so a hole in the mask, or anything in it after the end token, makes a response wrong.
    seen = jnp.where(mask.astype(bool), responses, PAD_TOKEN)

    def earned(prompt: Array, response: Array) -> Array:
        problem = task.read(prompt)
        return task.is_right(problem, response) * task.worth(problem)

    return jax.vmap(earned)(prompts, seen).astype(jnp.float32)


@partial(jax.jit, static_argnames="task")
def _parsed(task: TokenTask[Any], prompts: Array, responses: Array, mask: Array) -> Array:
    seen = jnp.where(mask.astype(bool), responses, PAD_TOKEN)
    return jax.vmap(lambda prompt, response: task.answer(task.read(prompt), response))(prompts, seen)


@partial(jax.jit, static_argnames=("task", "what"))
def _of_prompts(task: TokenTask[Any], prompts: Array, what: str) -> Array:
    found: Array = jax.vmap(lambda prompt: getattr(task, what)(task.read(prompt)))(prompts)
    return found


@partial(jax.jit, static_argnames="task")
def _demonstrations(task: TokenTask[Any], key: Array, prompts: Array) -> tuple[Array, Array]:
    def demonstration(key: Array, prompt: Array) -> tuple[Array, Array]:
        responses, right = task.candidates(task.read(prompt))
        chosen = responses[jax.random.categorical(key, jnp.where(right, 0.0, -jnp.inf))]
        exists = jnp.any(right)
        return jnp.where(exists, chosen, PAD_TOKEN), response_mask(chosen) & exists

    return jax.vmap(demonstration)(jax.random.split(key, prompts.shape[0]), prompts)


@partial(jax.jit, static_argnames="task")
def _answers(task: TokenTask[Any], prompts: Array) -> tuple[Array, Array]:
    return jax.vmap(lambda prompt: task.candidates(task.read(prompt)))(prompts)


def _held_out(task: TokenTask[Any], problem: Any) -> Array:
    return fingerprint(task.identity(problem)) % HELD_OUT_ONE_IN == 0
