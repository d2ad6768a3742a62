"""The numbers game: `3 5 7>22` wants an expression like `3*5+7`, of which there are several.

A game of the television programme Countdown (in French, Des chiffres et des lettres). This one is written without
parentheses, with `+`, `-` and `*` of the usual precedence.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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

_OPERATORS = "+-*"
_PLUS, _MINUS, _TIMES = range(3)
_TARGETS = 100
_CHARACTERS = "0123456789 >" + _OPERATORS
_SPACE, _ARROW, _FIRST_OPERATOR = (FIRST_CHARACTER + _CHARACTERS.index(character) for character in " >+")
# Numbers with more digits than an operand has stop growing here, lest they wrap around and meet an operand again.
_HUGE = 1000


class Numbers(NamedTuple):
    """What is given and what is to be reached.

    Attributes:
      operands: [count] int32, from 1.
      target: [] int32, from 0 to 99.
    """

    operands: Array
    target: Array


@dataclasses.dataclass(frozen=True)
class Countdown(TokenTask[Numbers]):
    """A number is to be reached from given operands by +, - and *.

    A right answer is an expression whose value is the target and which uses each given operand at most once (one that is
    given twice, twice); not all need be used. No parentheses, signs, spaces or leading zeros. Every such expression is right,
    commutations included.

    Operands are uniform, targets the values of random expressions of all operands, from 0 to 99 and none of the operands,
    so that no answer is a mere number. `3 5 7>22` is held out where `7 3 5>22` is.

    Attributes:
      operands: how many numbers are given, 3 or 4.
      largest: operands are uniform from 1 to this; the default keeps them to one digit, a character and a token.
    """

    operands: Annotated[int, Interval(3, 4)] = 3
    largest: Annotated[int, Interval(5, 99)] = 9

    @property
    def name(self) -> str:
        """The task's name."""
        return "countdown"

    @property
    def characters(self) -> str:
        """Digits, what prompts need, and operators."""
        return _CHARACTERS

    @property
    def prompt_length(self) -> int:
        """The operands with a separator after each, and the target."""
        return self.operands * (self._digits + 1) + 2

    @property
    def response_length(self) -> int:
        """The operands with operators between them, and the end."""
        return self.operands * (self._digits + 1)

    @property
    def _digits(self) -> int:
        return len(str(self.largest))

    def draw(self, key: Array) -> tuple[Numbers, Array]:
        """Draws operands, and as target the value of a random expression of all of them in a random order."""
        operands_key, operators_key, order_key = jax.random.split(key, 3)
        operands = jax.random.randint(operands_key, (self.operands,), 1, self.largest + 1)
        operators = jax.random.randint(operators_key, (self.operands - 1,), 0, len(_OPERATORS))
        target = _value(operands, operators, jnp.int32(self.operands))
        possible = (target >= 0) & (target < _TARGETS) & ~jnp.any(operands == target)
        return Numbers(jax.random.permutation(order_key, operands), target), possible

    def write(self, problem: Numbers) -> Array:
        """`3 5 7>22`."""
        pieces = []
        for index in range(self.operands):
            pieces.append(write_number(problem.operands[index], self._digits))
            pieces.append(write_token(_SPACE if index + 1 < self.operands else _ARROW))
        pieces.append(write_number(problem.target, 2))
        return join(pieces, pad_left=True)

    def read(self, prompt: Array) -> Numbers:
        """Operands and target."""
        numbers = read_numbers(prompt, self.operands + 1)
        return Numbers(numbers[:-1], numbers[-1])

    def identity(self, problem: Numbers) -> Array:
        """The operands in order of size, and the target."""
        return jnp.append(jnp.sort(problem.operands), problem.target)

    def is_right(self, problem: Numbers, response: Array) -> Array:
        """[] bool: evaluates the expression character by character; see the class for what is right."""
        read, _ = jax.lax.scan(
            functools.partial(_read_character, problem.operands), _Reading.start(self.operands), response
        )
        return read.valid & read.ended & (read.total == problem.target)

    def candidates(self, problem: Numbers) -> tuple[Array, Array]:
        """Every expression of some of the operands: 75 of three, 904 of four."""
        table = _Expressions(*map(jnp.asarray, _expressions(self.operands)))
        numbers = problem.operands[table.order]
        positions = jnp.arange(self.operands)
        pieces = []
        for index in range(self.operands):
            if index > 0:
                operator = _FIRST_OPERATOR + table.operators[:, index - 1]
                pieces.append(write_token(operator, index < table.size))
            tokens, shown = write_number(numbers[:, index], self._digits)
            pieces.append((tokens, shown & (index < table.size)[:, None]))
        pieces.append(write_token(jnp.full(len(table.size), END_TOKEN)))
        # Equal operands give the same text in several ways; the one in which they come in order counts.
        same = (problem.operands[:, None] == problem.operands) & (positions[:, None] < positions)
        swapped = same & (table.place[:, :, None] > table.place[:, None, :])
        right = (_value(numbers, table.operators, table.size) == problem.target) & ~jnp.any(swapped, axis=(1, 2))
        return join(pieces), right


def _value(numbers: Array, operators: Array, size: Array) -> Array:
    """Values [...] of expressions of the first `size` [...] of numbers [..., count], with operators [..., count - 1]."""
    total, sign, term = jnp.zeros_like(size), jnp.ones_like(size), numbers[..., 0]
    for index in range(1, numbers.shape[-1]):
        operator, number = operators[..., index - 1], numbers[..., index]
        used, times = index < size, operator == _TIMES
        total = jnp.where(used & ~times, total + sign * term, total)
        sign = jnp.where(used & ~times, jnp.where(operator == _MINUS, -1, 1), sign)
        term = jnp.where(used, jnp.where(times, term * number, number), term)
    return total + sign * term


class _Expressions(NamedTuple):
    """All expressions [e] of some of `count` operands.

    Attributes:
      order: [e, count] int32, which operand stands where; 0 beyond the expression's size.
      operators: [e, count - 1] int32.
      size: [e] int32, operands used.
      place: [e, count] int32, where each operand stands; `count` for those that are not used.
    """

    order: Array
    operators: Array
    size: Array
    place: Array


@functools.lru_cache
def _expressions(count: int) -> tuple[np.ndarray, ...]:
    """The columns of `_Expressions`, in NumPy, as what a trace makes must not outlive it."""
    rows = [
        (
            (*order, *[0] * (count - size)),
            (*operators, *[_PLUS] * (count - size)),
            size,
            [order.index(operand) if operand in order else count for operand in range(count)],
        )
        for size in range(1, count + 1)
        for order in itertools.permutations(range(count), size)
        for operators in itertools.product(range(len(_OPERATORS)), repeat=size - 1)
    ]
    return tuple(np.array(column, np.int32) for column in zip(*rows, strict=True))


class _Reading(NamedTuple):
    """What is known of an expression after some of its characters: `total + sign * term * number` is its value so far.

    Attributes:
      total: [] int32, sum of the finished terms.
      sign: [] int32, of the running term.
      term: [] int32, product of the running term's finished numbers.
      number: [] int32, the number being read; -1 before its first digit.
      unused: [count] bool, operands not used so far.
      valid: [] bool, whether this can still become a right answer.
      ended: [] bool, whether the end token was read.
    """

    total: Array
    sign: Array
    term: Array
    number: Array
    unused: Array
    valid: Array
    ended: Array

    @classmethod
    def start(cls, count: int) -> _Reading:
        zero, one = jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32)
        return cls(zero, one, one, -one, jnp.ones(count, bool), jnp.ones((), bool), jnp.zeros((), bool))


def _read_character(operands: Array, reading: _Reading, token: Array) -> tuple[_Reading, None]:
    digit, operator = token - FIRST_CHARACTER, token - _FIRST_OPERATOR
    is_digit = (digit >= 0) & (digit < 10)
    ends = token == END_TOKEN
    finishes = ends | ((operator >= 0) & (operator < len(_OPERATORS)))
    adds = finishes & (operator != _TIMES)
    # A number is finished by what follows it. Before its first digit it is -1, which no operand is: that refuses an
    # operator without a number before it. A zero that is followed by a digit is a leading one.
    matches = finishes & reading.unused & (operands == reading.number)
    longer = jnp.minimum(jnp.maximum(reading.number, 0) * 10 + digit, _HUGE)
    allowed = jnp.where(is_digit, reading.number != 0, jnp.any(matches))
    product = reading.term * reading.number
    following = _Reading(
        total=jnp.where(adds, reading.total + reading.sign * product, reading.total),
        sign=jnp.where(adds, jnp.where(operator == _MINUS, -1, 1), reading.sign),
        term=jnp.where(finishes, jnp.where(adds, 1, product), reading.term),
        number=jnp.where(is_digit, longer, jnp.where(finishes, -1, reading.number)),
        unused=reading.unused & ~(matches & (jnp.cumsum(matches) == 1)),
        valid=reading.valid & jnp.where(reading.ended, token == PAD_TOKEN, allowed),
        ended=reading.ended | ends,
    )
    return following, None
