"""Addition modulo a number: `37+85=` wants `25`, with modulus 97."""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from maxent_rl.settings import Interval
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.writing import END_TOKEN, join, read_numbers, write_number, write_token
from maxent_rl.types import Array


class Addition(NamedTuple):
    """Two numbers below the modulus, [] int32 each."""

    left: Array
    right: Array


@dataclasses.dataclass(frozen=True)
class ModularAddition(TokenTask[Addition]):
    """Two numbers are to be added modulo a third that the prompt does not name; there is one right answer.

    `5+3` is held out where `3+5` is: a policy that has learned that order does not matter gains nothing from it.

    Attributes:
      modulus: the sum is taken modulo this; both numbers lie below it. 97 is small enough that a policy sees each of the
        some 8,200 training problems many times, and a prime, so that no part of the sum shows in its last digit.
    """

    modulus: Annotated[int, Interval(10, 1_000_000)] = 97

    @property
    def name(self) -> str:
        """The task's name."""
        return "modular-addition"

    @property
    def characters(self) -> str:
        """Digits, plus, equals."""
        return "0123456789+="

    @property
    def prompt_length(self) -> int:
        """Two numbers, plus, equals."""
        return 2 * self._digits + 2

    @property
    def response_length(self) -> int:
        """One number and the end."""
        return self._digits + 1

    @property
    def _digits(self) -> int:
        return len(str(self.modulus - 1))

    def draw(self, key: Array) -> tuple[Addition, Array]:
        """Draws both numbers uniformly."""
        left, right = jax.random.randint(key, (2,), 0, self.modulus)
        return Addition(left, right), jnp.ones((), bool)

    def write(self, problem: Addition) -> Array:
        """`37+85=`."""
        plus, equals = (write_token(int(token)) for token in self.encode("+="))
        left, right = (write_number(number, self._digits) for number in problem)
        return join([left, plus, right, equals], pad_left=True)

    def read(self, prompt: Array) -> Addition:
        """Both numbers."""
        return Addition(*read_numbers(prompt, 2))

    def identity(self, problem: Addition) -> Array:
        """Both numbers, the smaller first."""
        return jnp.sort(jnp.stack(problem))

    def candidates(self, problem: Addition) -> tuple[Array, Array]:
        """The one right answer."""
        total = write_number((problem.left + problem.right) % self.modulus, self._digits)
        return join([total, write_token(END_TOKEN)])[None], jnp.ones(1, bool)
