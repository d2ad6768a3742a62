"""Copying and reversing: `abca>` wants `abca`, and `abca<` wants `acba`."""

from __future__ import annotations

import dataclasses
import string
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from maxent_rl.settings import Interval
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.writing import END_TOKEN, FIRST_CHARACTER, PAD_TOKEN, join, write_token
from maxent_rl.types import Array


class Word(NamedTuple):
    """A string and what is to be done with it.

    Attributes:
      letters: [longest] int32, letters from 0, and -1 after the last.
      length: [] int32, of the string.
      reverse: [] bool, whether it is to be reversed rather than copied.
    """

    letters: Array
    length: Array
    reverse: Array


@dataclasses.dataclass(frozen=True)
class CopyReverse(TokenTask[Word]):
    """A random string is to be written as it stands or backwards, as its marker says; there is one right answer.

    Lengths and letters are uniform. A string is held out with both markers. The default sizes have some 19 million
    strings, so that nothing is gained by remembering them: what is learned is where to look.

    Attributes:
      letters: how many letters there are, from `a`.
      longest: the most letters in a string.
    """

    letters: Annotated[int, Interval(2, 26)] = 8
    longest: Annotated[int, Interval(4, 64)] = 8

    @property
    def name(self) -> str:
        """The task's name."""
        return "copy-reverse"

    @property
    def characters(self) -> str:
        """The letters, and the markers for copying and reversing."""
        return string.ascii_lowercase[: self.letters] + "><"

    @property
    def prompt_length(self) -> int:
        """The string and the marker."""
        return self.longest + 1

    @property
    def response_length(self) -> int:
        """The string and the end."""
        return self.longest + 1

    def draw(self, key: Array) -> tuple[Word, Array]:
        """Draws a length, letters and a marker."""
        length_key, letters_key, reverse_key = jax.random.split(key, 3)
        length = jax.random.randint(length_key, (), 1, self.longest + 1)
        letters = jax.random.randint(letters_key, (self.longest,), 0, self.letters)
        return Word(self._cut(letters, length), length, jax.random.bernoulli(reverse_key)), jnp.ones((), bool)

    def write(self, problem: Word) -> Array:
        """`abca<`."""
        marker = write_token(FIRST_CHARACTER + self.letters + problem.reverse)
        return join([self._text(problem.letters), marker], pad_left=True)

    def read(self, prompt: Array) -> Word:
        """The string and what to do with it."""
        length = jnp.sum(prompt != PAD_TOKEN) - 1
        letters = jnp.roll(prompt, length + 1)[: self.longest] - FIRST_CHARACTER
        return Word(self._cut(letters, length), length, prompt[-1] == FIRST_CHARACTER + self.letters + 1)

    def identity(self, problem: Word) -> Array:
        """The string."""
        return problem.letters

    def candidates(self, problem: Word) -> tuple[Array, Array]:
        """The one right answer."""
        backwards = jnp.roll(problem.letters[::-1], problem.length)
        letters = jnp.where(problem.reverse, backwards, problem.letters)
        return join([self._text(letters), write_token(END_TOKEN)])[None], jnp.ones(1, bool)

    def _text(self, letters: Array) -> tuple[Array, Array]:
        return FIRST_CHARACTER + letters, letters >= 0

    def _cut(self, letters: Array, length: Array) -> Array:
        return jnp.where(jnp.arange(self.longest) < length, letters, -1)
