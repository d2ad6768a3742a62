"""A bandit told in text: `0417:` names a case with hidden arms, each turn pulls one of them and is told what it paid."""

from __future__ import annotations

import dataclasses
import string
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from maxent_rl.settings import Fraction, Interval, Weight
from maxent_rl.tokens.tasks.conversation import ConversationTask, Reply
from maxent_rl.tokens.tasks.writing import (
    END_TOKEN,
    FIRST_CHARACTER,
    fingerprint,
    read_numbers,
    write_number,
)
from maxent_rl.types import Array

_CASE_DIGITS = 4
_NOISE = 10_000  # what is hashed beside a case and an arm for the noise of its pulls, beyond any number of them


class Case(NamedTuple):
    """Which case, [] int32."""

    number: Array


class Pulled(NamedTuple):
    """The case, how often each arm was pulled [arms], and how many turns there were []; int32."""

    case: Case
    pulls: Array
    turn: Array


@dataclasses.dataclass(frozen=True)
class Bandit(ConversationTask[Case]):
    """Arms with hidden means are to be pulled so that they pay much: who explores too little stays with the wrong one.

    Each turn names an arm, `a`, and is told its reward as a digit from 0 to 9: a normal variable around the arm's mean, which
    lies between 0 and 9, cut off at both ends and rounded. A turn earns the digit's share of 9 and of all turns, so that an
    episode earns between 0 and 1. What is no arm is replied to with a dot and earns nothing. The last pull ends the episode.

    Means follow from the case by a fixed hash, and so does what each pull of an arm pays: whoever pulls an arm for the third
    time is told the same, whatever else was pulled between. Responses to one prompt differ by what they choose alone.

    Demonstrations are of three players: some pull at random; some are greedy, and after one pull of each arm take the one
    that has paid more on average; all others go by upper confidence bounds, the average and `noise sqrt(2 ln t / n)` after t
    turns and n pulls of the arm.

    Attributes:
      arms: how many there are.
      pulls: turns of an episode.
      noise: standard deviation of a reward, in digits.
      random: share of demonstrations by a player that pulls at random.
      greedy: share of the others by a greedy one.

    Source: the task after that of EAST (arXiv 2406.00244): two arms, normal rewards, told in text.
    """

    arms: Annotated[int, Interval(2, 20)] = 2
    pulls: Annotated[int, Interval(2, 50)] = 10
    noise: Weight = 2.0
    random: Fraction = 0.3
    greedy: Fraction = 0.5

    @property
    def name(self) -> str:
        """The task's name."""
        return "bandit"

    @property
    def characters(self) -> str:
        """Digits, the signs of prompts and refusals, and the arms."""
        return string.digits + ":." + string.ascii_lowercase[: self.arms]

    @property
    def prompt_length(self) -> int:
        """The case's number and a colon."""
        return _CASE_DIGITS + 1

    @property
    def turn_length(self) -> int:
        """An arm and the end."""
        return 2

    @property
    def reply_length(self) -> int:
        """One digit, or a dot."""
        return 1

    @property
    def max_turns(self) -> int:
        """All pulls."""
        return self.pulls

    def draw(self, key: Array) -> tuple[Case, Array]:
        """Draws a case."""
        return Case(jax.random.randint(key, (), 0, 10**_CASE_DIGITS)), jnp.ones((), bool)

    def write(self, problem: Case) -> Array:
        """`0417:`."""
        digits, _ = write_number(problem.number, _CASE_DIGITS)  # with its leading zeros
        return jnp.append(digits, int(self.encode(":")[0])).astype(jnp.int32)

    def read(self, prompt: Array) -> Case:
        """The case's number."""
        return Case(read_numbers(prompt, 1)[0])

    def identity(self, problem: Case) -> Array:
        """The case."""
        return problem.number[None]

    def difficulty(self, problem: Case) -> Array:
        """By how little the best mean is above the second best, as a share of the largest distance that there may be."""
        ordered = jnp.sort(self.means(problem))
        return 1.0 - (ordered[-1] - ordered[-2]) / 9.0

    def begin(self, problem: Case, key: Array) -> Pulled:
        """Nothing has been pulled."""
        return Pulled(problem, jnp.zeros(self.arms, jnp.int32), jnp.zeros((), jnp.int32))

    def reply(self, state: Pulled, said: Array, length: Array) -> Reply:
        """What the arm has paid, or a dot."""
        arm = said[0] - self._first_arm
        pulls = (length == self.turn_length) & (said[1] == END_TOKEN) & (arm >= 0) & (arm < self.arms)
        arm = jnp.clip(arm, 0, self.arms - 1)
        paid = self.payment(state.case, arm, state.pulls[arm])
        told = jnp.where(pulls, FIRST_CHARACTER + paid, int(self.encode(".")[0]))
        after = Pulled(state.case, state.pulls.at[arm].add(pulls), state.turn + 1)
        earned = jnp.where(pulls, paid / (9.0 * self.pulls), 0.0)
        one = jnp.ones((), jnp.int32)
        return Reply(after, told[None].astype(jnp.int32), one, earned.astype(jnp.float32), after.turn == self.pulls)

    def lines(self, key: Array | None, problem: Case) -> tuple[Array, Array]:
        """The pulls of one of three players, or, without a key, always the arm of the highest mean."""
        best = jnp.full(self.pulls, jnp.argmax(self.means(problem)))
        arms = best if key is None else self._played(key, problem)
        ends = jnp.full(self.pulls, END_TOKEN)
        return jnp.stack([self._first_arm + arms, ends], axis=1).astype(jnp.int32), jnp.asarray(self.pulls)

    def means(self, problem: Case) -> Array:
        """[arms] float32 from 0 to 9: what each arm pays on average, before it is cut off and rounded."""
        arms = jnp.arange(self.arms)
        return 9.0 * jax.vmap(lambda arm: _share(jnp.stack([problem.number, arm])))(arms)

    def payment(self, problem: Case, arm: Array, earlier: Array) -> Array:
        """[] int32 from 0 to 9: what an arm pays after it has been pulled so many times before."""
        share = _share(jnp.stack([problem.number, arm, _NOISE + earlier]))
        noise = jax.scipy.special.ndtri(
            jnp.clip(share, 1e-6, 1.0 - 1e-6)
        )  # beyond, a float cannot tell it from 0 and 1
        return jnp.clip(jnp.round(self.means(problem)[arm] + self.noise * noise), 0, 9).astype(jnp.int32)

    def _played(self, key: Array, problem: Case) -> Array:
        """[pulls] the arms that a player drawn at random pulls."""
        random_key, greedy_key, pull_key = jax.random.split(key, 3)
        at_random = jax.random.bernoulli(random_key, self.random)
        bonus = jnp.where(jax.random.bernoulli(greedy_key, self.greedy), 0.0, self.noise)

        def pull(carry: tuple[Array, Array], given: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
            counts, sums = carry
            turn, key = given
            drawn = jax.random.uniform(key, (self.arms,))
            seen = jnp.maximum(counts, 1)
            bound = sums / seen + bonus * jnp.sqrt(2.0 * jnp.log(jnp.maximum(turn, 1)) / seen)
            # Arms that were never pulled come first, in any order; equals are told apart by chance.
            wanted = jnp.where(counts == 0, 1e3 + drawn, bound + 1e-3 * drawn)
            arm = jnp.argmax(jnp.where(at_random, drawn, wanted))
            paid = self.payment(problem, arm, counts[arm])
            return (counts.at[arm].add(1), sums.at[arm].add(paid)), arm

        start = jnp.zeros(self.arms, jnp.int32), jnp.zeros(self.arms, jnp.int32)
        given = jnp.arange(self.pulls), jax.random.split(pull_key, self.pulls)
        arms: Array = jax.lax.scan(pull, start, given)[1]
        return arms

    @property
    def _first_arm(self) -> int:
        return int(self.encode("a")[0])


def _share(values: Array) -> Array:
    """[] float32 from 0 to 1, uniform over the hashes of whole numbers [length]."""
    return (fingerprint(values) >> 8).astype(jnp.float32) / 2.0**24
