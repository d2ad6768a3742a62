"""Addition modulo a number with several layouts of the answer: `b37+85=` wants `37+85#25`, `c37+85=` wants `~52`.

What counts as right is the number alone, in whatever layout it stands; the layout is for a source of prompts to ask for, and
to pay for (`templates`).
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.settings import Fraction, Interval
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.template import Form, Template
from maxent_rl.tokens.tasks.writing import (
    END_TOKEN,
    FIRST_CHARACTER,
    PAD_TOKEN,
    join,
    read_numbers,
    response_mask,
    write_number,
    write_token,
)
from maxent_rl.types import Array

_LETTERS, _SYNONYMS = "bcdefgh", "ijklmno"
_CHARACTERS = "0123456789+=#~:!" + _LETTERS + _SYNONYMS
_PLUS, _EQUALS, _ANSWER, _REVERSED, _SUM, _CHECK = (FIRST_CHARACTER + _CHARACTERS.index(one) for one in "+=#~:!")
_FIRST_LETTER = FIRST_CHARACTER + _CHARACTERS.index(_LETTERS)
_MOST_DIGITS = 8  # of a number that counts as an answer; more of them would not fit a machine word

_PARTS: tuple[tuple[str, ...], ...] = (
    (),
    ("copied",),
    ("reversed",),
    ("sum",),
    ("twice",),
    ("copied", "reversed"),
    ("copied", "twice"),
    ("sum", "twice"),
)
"""What each layout has beside the answer, in the order of their letters; the first one has no letter."""
_MARKERS = {"copied": "+", "reversed": "~", "sum": ":", "twice": "!"}


class Question(NamedTuple):
    """Two numbers below the modulus, [] int32 each, and the layout [] that is asked for."""

    left: Array
    right: Array
    layout: Array


@dataclasses.dataclass(frozen=True)
class Layouts(TokenTask[Question]):
    """Two numbers are to be added modulo a third; the answer may be laid out in eight ways, all of them as right.

    The answer is the number between the last of the markers `#`, `~` and `!` and the end; behind `~` its digits stand in
    reverse. Any text may stand before. Layouts are, by the letter before the problem: none, the answer alone (`#25`); b, the
    operands copied first (`37+85#25`); c, digits reversed (`~52`); d, the sum before it is reduced (`:122#25`); e, the answer
    twice (`#25!25`); f, copied and reversed; g, copied and twice; h, sum and twice. The letters i to o ask for the answer
    alone, as none does. Prompts of the task itself have no letter. `3+5` is held out where `5+3` is.

    Attributes:
      modulus: the sum is taken modulo this; both numbers lie below it.
      noise: share of the demonstrations whose answer is another number, for a warm start that leaves something to learn.
    """

    modulus: Annotated[int, Interval(10, 1_000_000)] = 23
    noise: Fraction = 0.0

    @property
    def name(self) -> str:
        """The task's name."""
        return "layouts"

    @property
    def characters(self) -> str:
        """Digits, plus, equals, the markers of answers, letters of layouts, letters that mean the first layout."""
        return _CHARACTERS

    @property
    def prompt_length(self) -> int:
        """Two numbers, plus, equals."""
        return 2 * self._digits + 2

    @property
    def response_length(self) -> int:
        """Operands or sum, the answer twice, and what stands between."""
        width, total = self._digits, len(str(2 * (self.modulus - 1)))
        return max(2 * width + 1, total + 1) + 2 * (width + 1) + 1

    @property
    def templates(self) -> tuple[Template, ...]:
        """The eight layouts, with what is paid for their form."""
        return tuple(_template(index) for index in range(len(_PARTS)))

    @property
    def synonyms(self) -> tuple[Template, ...]:
        """Eight prompts that ask for the first layout."""
        return (Template(), *(Template(f"{letter}{{}}") for letter in _SYNONYMS))

    @property
    def _digits(self) -> int:
        return len(str(self.modulus - 1))

    def draw(self, key: Array) -> tuple[Question, Array]:
        """Draws both numbers uniformly."""
        left, right = jax.random.randint(key, (2,), 0, self.modulus)
        return Question(left, right, jnp.zeros((), jnp.int32)), jnp.ones((), bool)

    def write(self, problem: Question) -> Array:
        """`37+85=`, without a letter."""
        left, right = (write_number(number, self._digits) for number in (problem.left, problem.right))
        return join([left, write_token(_PLUS), right, write_token(_EQUALS)], pad_left=True)

    def read(self, prompt: Array) -> Question:
        """Both numbers, and the layout by its letter, wherever it stands; prompts may be of any width."""
        letter = jnp.max(prompt) - _FIRST_LETTER + 1
        left, right = read_numbers(jnp.where(prompt >= _FIRST_LETTER, PAD_TOKEN, prompt), 2)
        return Question(left, right, jnp.where((letter > 0) & (letter < len(_PARTS)), letter, 0))

    def identity(self, problem: Question) -> Array:
        """Both numbers, the smaller first."""
        return jnp.sort(jnp.stack([problem.left, problem.right]))

    def answer(self, problem: Question, response: Array) -> Array:
        """The number behind the last marker."""
        place, ends = jnp.arange(response.shape[0]), response == END_TOKEN
        end = jnp.argmax(ends)
        inside = place < end
        is_marker = inside & ((response == _ANSWER) | (response == _REVERSED) | (response == _CHECK))
        marker = jnp.max(jnp.where(is_marker, place, -1))
        digits, value = inside & (place > marker), response - FIRST_CHARACTER
        clean = jnp.any(ends) & jnp.all(jnp.where(inside, response != PAD_TOKEN, True))
        count = jnp.sum(digits)
        readable = clean & (marker >= 0) & (count >= 1) & (count <= _MOST_DIGITS)
        readable = readable & jnp.all(jnp.where(digits, (value >= 0) & (value < 10), True))
        powers = jnp.asarray(10 ** np.arange(_MOST_DIGITS), jnp.int32)
        turned = response[jnp.maximum(marker, 0)] == _REVERSED
        power = powers[jnp.clip(jnp.where(turned, place - marker - 1, end - 1 - place), 0, _MOST_DIGITS - 1)]
        return jnp.where(readable, jnp.sum(jnp.where(digits, value * power, 0)), -1).astype(jnp.int32)

    def is_right(self, problem: Question, response: Array) -> Array:
        """[] bool: whether the number is the sum."""
        return self.answer(problem, response) == self._total(problem)

    def candidates(self, problem: Question) -> tuple[Array, Array]:
        """The one in the layout that is asked for; others are right too."""
        return self._laid_out(problem, self._total(problem))[None], jnp.ones(1, bool)

    def demonstrations(self, key: Array, prompts: Array) -> tuple[Array, Array]:
        """Answers in the layout that is asked for, of which the share `noise` has another number; prompts of any width."""
        drawn: tuple[Array, Array] = _demonstrations(self, key, prompts)
        return drawn

    def demonstration(self, key: Array, prompt: Array) -> Array:
        """One of them, [T]."""
        is_noise, other = jax.random.split(key)
        problem = self.read(prompt)
        added = jax.random.randint(other, (), 1, self.modulus) * jax.random.bernoulli(is_noise, self.noise)
        return self._laid_out(problem, (self._total(problem) + added) % self.modulus)

    def _total(self, problem: Question) -> Array:
        return (problem.left + problem.right) % self.modulus

    def _laid_out(self, problem: Question, answer: Array) -> Array:
        """The response [T] that gives an answer in the problem's layout."""
        has = {part: jnp.asarray([part in parts for parts in _PARTS])[problem.layout] for part in _MARKERS}
        left, right = (write_number(number, self._digits) for number in (problem.left, problem.right))
        total = write_number(problem.left + problem.right, len(str(2 * (self.modulus - 1))))
        digits, shown = write_number(answer, self._digits)
        turned = has["reversed"]
        digits, shown = (jnp.where(turned, jnp.flip(one), one) for one in (digits, shown))
        pieces = [
            *(_shown(piece, has["copied"]) for piece in (left, write_token(_PLUS), right)),
            *(_shown(piece, has["sum"]) for piece in (write_token(_SUM), total)),
            write_token(jnp.where(turned, _REVERSED, _ANSWER)),
            (digits, shown),
            *(_shown(piece, has["twice"]) for piece in (write_token(_CHECK), (digits, shown))),
            write_token(END_TOKEN),
        ]
        return join(pieces)[: self.response_length]


@partial(jax.jit, static_argnames="task")
def _demonstrations(task: Layouts, key: Array, prompts: Array) -> tuple[Array, Array]:
    tokens = jax.vmap(task.demonstration)(jax.random.split(key, prompts.shape[0]), prompts)
    return tokens, response_mask(tokens)


def _shown(piece: tuple[Array, Array], also: Array) -> tuple[Array, Array]:
    return piece[0], piece[1] & also


def _template(index: int) -> Template:
    parts = _PARTS[index]
    letter = _LETTERS[index - 1] if index else ""
    if not parts:
        return Template()
    markers = tuple(_MARKERS[part] for part in parts) + (() if "reversed" in parts else ("#",))
    form: Form = "phrase" if parts == ("reversed",) else "tags"
    return Template(f"{letter}{{}}", "", markers, form)
