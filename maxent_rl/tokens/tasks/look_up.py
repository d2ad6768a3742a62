"""A look-up of several turns: `0417:a,c=` asks for the largest of two values that are told on request, one in each turn."""

from __future__ import annotations

import dataclasses
import string
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.settings import Fraction, Interval
from maxent_rl.tokens.tasks.conversation import ConversationTask, Reply
from maxent_rl.tokens.tasks.writing import END_TOKEN, FIRST_CHARACTER, PAD_TOKEN, fingerprint, join, write_token
from maxent_rl.types import Array

_BOOK_DIGITS = 4


class Wanted(NamedTuple):
    """Which values of which book are to be added: the book's number [] and the keys [operands], int32."""

    book: Array
    keys: Array


@dataclasses.dataclass(frozen=True)
class LookUp(ConversationTask[Wanted]):
    """Values of letters are to be looked up, and the largest is to be said; what is not asked for can only be guessed.

    In each turn the model may ask, `?a`, and is told the value of that letter in this book, one digit; or answer, `!7`, which
    ends the conversation and earns 1 if it is right. Anything else is replied to with a dot. Books differ: the values of one
    say nothing of another's. What is asked decides how sure the answer can be: after all letters it follows, before that
    it is a guess, the less sure the smaller what has been heard.

    Demonstrations ask for all letters and answer rightly, but for a share of them that guesses after some of the
    questions.

    Attributes:
      letters: how many letters a book has.
      operands: how many of them are compared.
      guesses: share of demonstrations that answer too early, with any digit.
    """

    letters: Annotated[int, Interval(2, 20)] = 6
    operands: Annotated[int, Interval(1, 4)] = 2
    guesses: Fraction = 0.7

    @property
    def name(self) -> str:
        """The task's name."""
        return "look-up"

    @property
    def characters(self) -> str:
        """Digits, the letters, and the signs of prompts, questions, answers and refusals."""
        return string.digits + ",=:?!." + string.ascii_lowercase[: self.letters]

    @property
    def prompt_length(self) -> int:
        """The book's number, a colon, and each letter with a sign after it."""
        return _BOOK_DIGITS + 1 + 2 * self.operands

    @property
    def turn_length(self) -> int:
        """A sign, a letter or a digit, and the end."""
        return 3

    @property
    def reply_length(self) -> int:
        """One digit, or a dot."""
        return 1

    @property
    def max_turns(self) -> int:
        """A question for each letter, the answer, and one turn to be wasted."""
        return self.operands + 2

    def draw(self, key: Array) -> tuple[Wanted, Array]:
        """Draws a book, and letters of it, which may be the same."""
        book_key, letters_key = jax.random.split(key)
        book = jax.random.randint(book_key, (), 0, 10**_BOOK_DIGITS)
        return Wanted(book, jax.random.randint(letters_key, (self.operands,), 0, self.letters)), jnp.ones((), bool)

    def write(self, problem: Wanted) -> Array:
        """`0417:a,c=`."""
        colon, comma, equals = (int(token) for token in self.encode(":,="))
        digits = problem.book // jnp.asarray(10 ** np.arange(_BOOK_DIGITS)[::-1], jnp.int32) % 10
        signs = jnp.full(self.operands, comma).at[-1].set(equals)
        keys = jnp.stack([self._first_letter + problem.keys, signs], axis=1).ravel()
        return jnp.concatenate([FIRST_CHARACTER + digits, jnp.array([colon]), keys]).astype(jnp.int32)

    def read(self, prompt: Array) -> Wanted:
        """The book's number and the letters."""
        powers = jnp.asarray(10 ** np.arange(_BOOK_DIGITS)[::-1], jnp.int32)
        keys = prompt[_BOOK_DIGITS + 1 :: 2] - self._first_letter
        return Wanted(jnp.sum((prompt[:_BOOK_DIGITS] - FIRST_CHARACTER) * powers), keys)

    def identity(self, problem: Wanted) -> Array:
        """The book alone: whoever has learned one by heart gains nothing from it in another."""
        return problem.book[None]

    def difficulty(self, problem: Wanted) -> Array:
        """How many different letters have to be asked for."""
        ordered = jnp.sort(problem.keys)
        return 1.0 + jnp.sum(ordered[1:] != ordered[:-1])

    def begin(self, problem: Wanted, key: Array) -> Wanted:
        """The problem, which is all that the environment has to keep."""
        return problem

    def reply(self, state: Wanted, said: Array, length: Array) -> Reply:
        """The value asked for; whether an answer is right; or a dot."""
        answer, dot = (int(token) for token in self.encode("!."))
        sign, what, end = said
        letter, digit = what - self._first_letter, what - FIRST_CHARACTER
        answers = (length == self.turn_length) & (sign == answer) & (end == END_TOKEN) & (digit >= 0) & (digit < 10)
        told = jnp.where(self.calls(said, length), FIRST_CHARACTER + self.value(state.book, letter), dot)
        right = answers & (digit == self.largest(state))
        return Reply(state, told[None].astype(jnp.int32), jnp.ones((), jnp.int32), right.astype(jnp.float32), answers)

    def calls(self, said: Array, length: Array) -> Array:
        """A question for a letter of the book."""
        letter = said[1] - self._first_letter
        asks = (length == self.turn_length) & (said[0] == int(self.encode("?")[0])) & (said[2] == END_TOKEN)
        return asks & (letter >= 0) & (letter < self.letters)

    def lines(self, key: Array | None, problem: Wanted) -> tuple[Array, Array]:
        """A question for each letter in order, and the answer; with a key perhaps a guess in place of the questions' rest."""
        ask, answer = (int(token) for token in self.encode("?!"))
        asked, said = jnp.asarray(self.operands), self.largest(problem)
        if key is not None:
            whether, when, what = jax.random.split(key, 3)
            guesses = jax.random.bernoulli(whether, self.guesses)
            asked = jnp.where(guesses, jax.random.randint(when, (), 0, self.operands), asked)
            said = jnp.where(guesses, jax.random.randint(what, (), 0, 10), said)
        turn = jnp.arange(self.max_turns)
        keys = jnp.pad(problem.keys, (0, self.max_turns - self.operands))
        asks = turn < asked
        sign, what = jnp.where(asks, ask, answer), jnp.where(asks, self._first_letter + keys, FIRST_CHARACTER + said)
        pieces = [write_token(sign), write_token(what), write_token(jnp.full_like(turn, END_TOKEN))]
        lines = jnp.where((turn <= asked)[:, None], join(pieces), PAD_TOKEN)
        return lines, asked + 1

    def value(self, book: Array, letter: Array) -> Array:
        """[] int32 from 0 to 9: the value of a letter, by a fixed hash that nobody learns."""
        return (fingerprint(jnp.stack([book, letter])) % 10).astype(jnp.int32)

    def largest(self, problem: Wanted) -> Array:
        """[] int32: the right answer."""
        values = jax.vmap(lambda letter: self.value(problem.book, letter))(problem.keys)
        return jnp.max(values)

    @property
    def _first_letter(self) -> int:
        return int(self.encode("a")[0])
