"""A sum of numbers that are told on request: `0417:2=` asks for the sum of two operands that only queries bring to light."""

from __future__ import annotations

import dataclasses
import string
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from maxent_rl.settings import Fraction, Interval
from maxent_rl.tokens.tasks.conversation import ConversationTask, Reply
from maxent_rl.tokens.tasks.writing import (
    END_TOKEN,
    FIRST_CHARACTER,
    PAD_TOKEN,
    fingerprint,
    join,
    read_numbers,
    write_number,
    write_token,
)
from maxent_rl.types import Array

_CASE_DIGITS = 4


class Hidden(NamedTuple):
    """Which case, and how many operands it has; [] int32 each."""

    case: Array
    operands: Array


class Told(NamedTuple):
    """The problem, and how many of its operands have been told, [] int32."""

    problem: Hidden
    told: Array


@dataclasses.dataclass(frozen=True)
class QuerySum(ConversationTask[Hidden]):
    """Operands are hidden, told one by one on request, and to be added modulo a number: the smallest task with a tool.

    In each turn the model may query, `?`, which is the call of a tool and is told the next operand, one digit, or a dot when
    there are no more; or answer, `!7`, which ends the conversation and earns 1 if it is right. Anything else is replied to
    with a dot. Who has not asked for all operands can only guess; who asks further has turns to waste, and gains nothing.

    Demonstrations query as often as there are operands and answer rightly, but for a share of them that guesses after some of
    the queries.

    Attributes:
      operands: the most that a case has; problems have from one to so many, all numbers being equally likely.
      modulus: operands and their sum are below it.
      spare: turns beyond the queries and the answer of the longest problem.
      guesses: share of demonstrations that answer too early, with any digit.

    Source: the toy for SPEAR (arXiv 2509.22601), with QUERY as the tool call.
    """

    operands: Annotated[int, Interval(1, 6)] = 2
    modulus: Annotated[int, Interval(2, 10)] = 10
    spare: Annotated[int, Interval(0, 8)] = 3
    guesses: Fraction = 0.7

    @property
    def name(self) -> str:
        """The task's name."""
        return "query-sum"

    @property
    def characters(self) -> str:
        """Digits, and the signs of prompts, queries, answers and refusals."""
        return string.digits + ":=?!."

    @property
    def prompt_length(self) -> int:
        """The case's number, a colon, the number of operands, and the sign of equality."""
        return _CASE_DIGITS + 3

    @property
    def turn_length(self) -> int:
        """A sign, a digit, and the end."""
        return 3

    @property
    def reply_length(self) -> int:
        """One digit, or a dot."""
        return 1

    @property
    def max_turns(self) -> int:
        """A query for each operand, the answer, and what may be wasted."""
        return self.operands + 1 + self.spare

    def draw(self, key: Array) -> tuple[Hidden, Array]:
        """Draws a case and how many operands it has."""
        case_key, count_key = jax.random.split(key)
        case = jax.random.randint(case_key, (), 0, 10**_CASE_DIGITS)
        return Hidden(case, jax.random.randint(count_key, (), 1, self.operands + 1)), jnp.ones((), bool)

    def write(self, problem: Hidden) -> Array:
        """`0417:2=`."""
        colon, equals = self.encode(":=")
        case, _ = write_number(problem.case, _CASE_DIGITS)  # with its leading zeros
        return jnp.concatenate([case, jnp.stack([colon, FIRST_CHARACTER + problem.operands, equals])]).astype(jnp.int32)

    def read(self, prompt: Array) -> Hidden:
        """The case's number and that of its operands."""
        case, count = read_numbers(prompt, 2)
        return Hidden(case, count)

    def identity(self, problem: Hidden) -> Array:
        """The case alone: whoever has learned one by heart gains nothing from it in another."""
        return problem.case[None]

    def difficulty(self, problem: Hidden) -> Array:
        """How many operands have to be asked for."""
        return problem.operands.astype(jnp.float32)

    def begin(self, problem: Hidden, key: Array) -> Told:
        """Nothing has been told."""
        return Told(problem, jnp.zeros((), jnp.int32))

    def reply(self, state: Told, said: Array, length: Array) -> Reply:
        """The next operand; whether an answer is right; or a dot."""
        answer, dot = (int(token) for token in self.encode("!."))
        sign, second, third = said
        digit = second - FIRST_CHARACTER
        answers = (length == self.turn_length) & (sign == answer) & (third == END_TOKEN)
        answers = answers & (digit >= 0) & (digit < 10)
        tells = self.calls(said, length) & (state.told < state.problem.operands)
        told = jnp.where(tells, FIRST_CHARACTER + self.operand(state.problem.case, state.told), dot)
        right = answers & (digit == self.total(state.problem))
        after = state._replace(told=state.told + tells)
        return Reply(after, told[None].astype(jnp.int32), jnp.ones((), jnp.int32), right.astype(jnp.float32), answers)

    def calls(self, said: Array, length: Array) -> Array:
        """A query, whether or not there is anything left to tell."""
        return (length == 2) & (said[0] == int(self.encode("?")[0])) & (said[1] == END_TOKEN)

    def anchor(self, state: Told, told: Array) -> Array:
        """How many operands are known, which are the same ones then."""
        return state.told.astype(jnp.int32)

    def lines(self, key: Array | None, problem: Hidden) -> tuple[Array, Array]:
        """A query for each operand, and the answer; with a key perhaps a guess in place of the queries' rest."""
        query, answer = (int(token) for token in self.encode("?!"))
        asked, said = problem.operands, self.total(problem)
        if key is not None:
            whether, when, what = jax.random.split(key, 3)
            guesses = jax.random.bernoulli(whether, self.guesses)
            asked = jnp.where(guesses, jax.random.randint(when, (), 0, problem.operands), asked)
            said = jnp.where(guesses, jax.random.randint(what, (), 0, self.modulus), said)
        turn = jnp.arange(self.max_turns)
        asks = turn < asked
        digit = write_token(jnp.full_like(turn, FIRST_CHARACTER + said), ~asks)
        end = write_token(jnp.full_like(turn, END_TOKEN))
        lines = join([write_token(jnp.where(asks, query, answer)), digit, end])
        return jnp.where((turn <= asked)[:, None], lines, PAD_TOKEN), asked + 1

    def operand(self, case: Array, index: Array) -> Array:
        """[] int32 below the modulus: an operand of a case, by a fixed hash that nobody learns."""
        return (fingerprint(jnp.stack([case, index])) % self.modulus).astype(jnp.int32)

    def total(self, problem: Hidden) -> Array:
        """[] int32: the right answer."""
        index = jnp.arange(self.operands)
        values = jax.vmap(lambda one: self.operand(problem.case, one))(index)
        return jnp.sum(jnp.where(index < problem.operands, values, 0)) % self.modulus
