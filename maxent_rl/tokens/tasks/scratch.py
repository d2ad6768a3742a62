"""Sums with room to think: `3+5+2=` wants any text, a marker and the sum, as `8,10#10` or `#10`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Interval
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.writing import (
    END_TOKEN,
    FIRST_CHARACTER,
    PAD_TOKEN,
    join,
    read_numbers,
    write_number,
    write_token,
)
from maxent_rl.types import Array

_CHARACTERS = "0123456789+=,#"
_PLUS, _EQUALS, _COMMA, _MARKER = (FIRST_CHARACTER + _CHARACTERS.index(character) for character in "+=,#")
_MOST_DIGITS = 8  # of a number that counts as an answer; more of them would not fit a machine word


class Sum(NamedTuple):
    """What is to be added: operands [most] int32 from 1, and 0 beyond the last."""

    operands: Array


@dataclasses.dataclass(frozen=True)
class Scratch(TokenTask[Sum]):
    """One to six numbers are to be added, after as much text as a policy likes.

    A response is right that has exactly one marker `#`, after which the digits of the sum and the end stand, and nothing else;
    before it any characters may stand. Leading zeros do not matter. Demonstrations write none, one or more of the running
    sums before the marker (of two operands, of three, and so on, `8,10#10`), each number of them as often, so that a policy
    that has imitated them writes short and long ones, and what is written can help where there are many operands.

    The difficulty is the number of operands. `3+5` is held out where `5+3` is.

    Attributes:
      least: the fewest operands of a problem.
      most: the most; all numbers of them between are equally likely.
      largest: operands are uniform from 1 to this.
    """

    least: Annotated[int, Interval(1, 6)] = 1
    most: Annotated[int, Interval(1, 6)] = 6
    largest: Annotated[int, Interval(1, 99)] = 9

    def __post_init__(self) -> None:
        """Checks the sizes.

        Raises:
          InvalidSettingError: a size out of its bounds, or fewer operands at most than at least.
        """
        super().__post_init__()
        if self.least > self.most:
            raise InvalidSettingError(f"least={self.least} operands must not be more than most={self.most}.")

    @property
    def name(self) -> str:
        """The task's name."""
        return "scratch"

    @property
    def characters(self) -> str:
        """Digits, plus and equals of prompts, comma and marker of responses."""
        return _CHARACTERS

    @property
    def prompt_length(self) -> int:
        """The operands with a character after each."""
        return self.most * (len(str(self.largest)) + 1)

    @property
    def response_length(self) -> int:
        """All running sums with commas between them, the marker, the sum and the end."""
        return max((self.most - 1) * (self._digits + 1) - 1, 0) + self._digits + 2

    @property
    def _digits(self) -> int:
        return len(str(self.most * self.largest))

    def draw(self, key: Array) -> tuple[Sum, Array]:
        """Draws how many operands there are, and each of them uniformly."""
        number_key, operands_key = jax.random.split(key)
        number = jax.random.randint(number_key, (), self.least, self.most + 1)
        operands = jax.random.randint(operands_key, (self.most,), 1, self.largest + 1)
        return Sum(jnp.where(jnp.arange(self.most) < number, operands, 0)), jnp.ones((), bool)

    def write(self, problem: Sum) -> Array:
        """`3+5+2=`."""
        pieces = []
        number = jnp.sum(problem.operands > 0)
        for index in range(self.most):
            tokens, shown = write_number(problem.operands[index], len(str(self.largest)))
            pieces.append((tokens, shown & (index < number)))
            pieces.append(write_token(jnp.where(index + 1 < number, _PLUS, _EQUALS), index < number))
        return join(pieces, pad_left=True)

    def read(self, prompt: Array) -> Sum:
        """The operands."""
        return Sum(read_numbers(prompt, self.most))

    def identity(self, problem: Sum) -> Array:
        """The operands in order of size."""
        return jnp.sort(problem.operands)

    def difficulty(self, problem: Sum) -> Array:
        """The number of operands."""
        return jnp.sum(problem.operands > 0).astype(jnp.float32)

    def answer(self, problem: Sum, response: Array) -> Array:
        """The number after the marker."""
        place = jnp.arange(response.shape[0])
        ends = response == END_TOKEN
        end = jnp.argmax(ends)
        inside = place < end
        markers = inside & (response == _MARKER)
        digits = inside & (place > jnp.argmax(markers))
        value = response - FIRST_CHARACTER
        right_form = jnp.all(jnp.where(digits, (value >= 0) & (value < 10), True))
        clean = jnp.any(ends) & jnp.all(jnp.where(inside, response != PAD_TOKEN, True))
        count = jnp.sum(digits)
        readable = clean & right_form & (jnp.sum(markers) == 1) & (count >= 1) & (count <= _MOST_DIGITS)
        powers = jnp.asarray(10 ** np.arange(_MOST_DIGITS), jnp.int32)
        number = jnp.sum(jnp.where(digits, value * powers[jnp.clip(end - 1 - place, 0, _MOST_DIGITS - 1)], 0))
        return jnp.where(readable, number, -1).astype(jnp.int32)

    def is_right(self, problem: Sum, response: Array) -> Array:
        """[] bool: whether the number after the marker is the sum."""
        return self.answer(problem, response) == jnp.sum(problem.operands)

    def candidates(self, problem: Sum) -> tuple[Array, Array]:
        """The right answers that demonstrations are taken from: with the first so many running sums; others are right too."""
        number, sums = jnp.sum(problem.operands > 0), jnp.cumsum(problem.operands)
        written = jnp.arange(self.most)  # how many running sums
        pieces = []
        for index in range(1, self.most):
            tokens, shown = write_number(jnp.broadcast_to(sums[index], written.shape), self._digits)
            pieces.append((tokens, shown & (index <= written)[:, None]))
            pieces.append(write_token(jnp.full(self.most, _COMMA), index < written))
        total, shown = write_number(jnp.broadcast_to(sums[-1], written.shape), self._digits)
        marker, end = (write_token(jnp.full(self.most, token)) for token in (_MARKER, END_TOKEN))
        joined = join([*pieces, marker, (total, shown), end])
        return joined[:, : self.response_length], written < jnp.maximum(number, 1)
