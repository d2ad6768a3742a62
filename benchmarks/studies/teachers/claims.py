"""What the papers claim, as differences between contenders that are there or not, and rewards at equal divergence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.lab import claims
from benchmarks.lab.claims import Claim, Found, course
from benchmarks.lab.study import Result, Run
from benchmarks.studies.teachers.setting import Routing, Soups, WarmStarts

AT_EQUAL = "pass@1 at equal divergence"
"""A metric that only a pair of contenders has: the last that both reached, by interpolation."""
BELOW_EQUAL = "pass@1 up to equal divergence"
"""The mean of all that lies before it, over the divergence."""
_DIVERGENCE = "divergence from start"
Values = Sequence[float] | np.ndarray


CLAIMS = [
    Claim("SRPO", "SDPO is faster than GRPO at first", Routing.part, "pass@1, early", "sdpo", "grpo"),
    Claim("SRPO", "SRPO is as fast as SDPO at first", Routing.part, "pass@1, early", "srpo", "sdpo", "not less"),
    Claim("SRPO", "SRPO is faster than GRPO at first", Routing.part, "pass@1, early", "srpo", "grpo"),
    Claim("SRPO", "SDPO falls from its best later, more than GRPO", Routing.part, "pass@1, fall", "sdpo", "grpo"),
    Claim("SRPO", "SRPO falls no more than GRPO", Routing.part, "pass@1, fall", "srpo", "grpo", "not more"),
    Claim("SRPO", "SRPO ends above GRPO", Routing.part, "pass@1, end", "srpo", "grpo"),
    Claim("SRPO", "SRPO ends above SDPO", Routing.part, "pass@1, end", "srpo", "sdpo"),
    Claim("Light-IF", "more entropy is left", WarmStarts.part, "entropy, first", "entropy-sft", "likelihood"),
    Claim(
        "Light-IF",
        "more than by learning as many tokens of all",
        WarmStarts.part,
        "entropy, first",
        "entropy-sft",
        "likelihood, shorter",
    ),
    Claim(
        "Light-IF",
        "as many right answers after it",
        WarmStarts.part,
        "pass@1, first",
        "entropy-sft",
        "likelihood",
        "not less",
    ),
    Claim("Light-IF", "GRPO reaches more from it", WarmStarts.part, "pass@1, end", "entropy-sft", "likelihood"),
    Claim(
        "Light-IF",
        "and more than after as many tokens of all",
        WarmStarts.part,
        "pass@1, end",
        "entropy-sft",
        "likelihood, shorter",
    ),
    Claim("SALSA", "more right answers at the end", Soups.part, "pass@1, end", "salsa", "ppo"),
    Claim("SALSA", "the policy goes further from its start", Soups.part, f"{_DIVERGENCE}, end", "salsa", "ppo"),
    Claim("SALSA", "our sheet: more at equal divergence, too", Soups.part, AT_EQUAL, "salsa", "ppo"),
    Claim("SALSA", "the same, over all the way there", Soups.part, BELOW_EQUAL, "salsa", "ppo"),
    Claim("SALSA", "our sheet: the soup is the better policy", Soups.part, "pass@1, first", "soup", "ppo"),
    Claim(
        "SALSA", "our sheet: beginning as the soup is no better", Soups.part, "pass@1, end", "salsa", "soup", "not less"
    ),
]


def judged(result: Result, place: str, claim: Claim) -> Found | None:
    """What came of a claim at a place, at equal divergences too; None where it has not been measured."""
    return claims.judged(result, place, claim, {AT_EQUAL: _at_equal, BELOW_EQUAL: _below_equal})


def _at_equal(one: Run, other: Run) -> tuple[float, float]:
    return at_equal(*_courses(one), *_courses(other))


def _below_equal(one: Run, other: Run) -> tuple[float, float]:
    return below_equal(*_courses(one), *_courses(other))


def _courses(run: Run) -> tuple[np.ndarray, np.ndarray]:
    return course(run, _DIVERGENCE), course(run, "pass@1")


def at_equal(far: Values, score: Values, other_far: Values, other_score: Values) -> tuple[float, float]:
    """Scores of two courses at the largest divergence that both reached.

    Args:
      far: [point] divergences of the one, in nats; points are sorted by them, and straight lines lie between.
      score: [point] what it reached there.
      other_far: divergences of the other.
      other_score: what that reached.
    """
    common = min(max(far), max(other_far))
    return float(_at(far, score, [common])[0]), float(_at(other_far, other_score, [common])[0])


def below_equal(far: Values, score: Values, other_far: Values, other_score: Values) -> tuple[float, float]:
    """Mean scores of two courses over all divergences that both reached; arguments as of `at_equal`."""
    places = np.linspace(max(min(far), min(other_far)), min(max(far), max(other_far)), 101)
    return float(np.mean(_at(far, score, places))), float(np.mean(_at(other_far, other_score, places)))


def _at(far: Values, score: Values, places: Values) -> np.ndarray:
    order = np.argsort(far, kind="stable")
    return np.interp(places, np.asarray(far)[order], np.asarray(score)[order])
