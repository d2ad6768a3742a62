"""What the papers claim, as differences between contenders that are there or not, and rewards at equal divergence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from benchmarks.lab.study import Result, Results, Run, runs_of
from benchmarks.studies.teachers.setting import Routing, Soups, WarmStarts
from maxent_rl.reports.statistics import (
    Interval,
    interquartile_mean,
    probability_of_improvement,
    stratified_bootstrap,
)

Direction = Literal["more", "not less", "not more"]
MARGIN = 0.02
"""Differences below this do not count against "not less" and "not more"."""
AT_EQUAL = "pass@1 at equal divergence"
"""A metric that only a pair of contenders has: the last that both reached, by interpolation."""
BELOW_EQUAL = "pass@1 up to equal divergence"
"""The mean of all that lies before it, over the divergence."""
_DIVERGENCE = "divergence from start"


class Claim(NamedTuple):
    """A claim, and where it would be seen.

    Attributes:
      paper: whose.
      says: what, in words.
      part: that was measured for it.
      metric: in which it is seen.
      one: the contender that it is about.
      other: with whom it is compared, seed by seed.
      direction: more; or not less (not more), but for `MARGIN`.
    """

    paper: str
    says: str
    part: str
    metric: str
    one: str
    other: str
    direction: Direction = "more"


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


class Found(NamedTuple):
    """What came of a claim.

    Attributes:
      one, other: interquartile means.
      difference: interquartile mean of the differences seed by seed, with its interval.
      improvement: how likely a run of the one is above one of the other, with its interval.
      verdict: in words.
    """

    one: float
    other: float
    difference: Interval
    improvement: Interval
    verdict: str


def judged(result: Result, place: str, claim: Claim) -> Found | None:
    """What came of a claim at a place; None where it has not been measured."""
    one, other = pairs(result, place, claim)
    if not len(one):
        return None
    difference = stratified_bootstrap(interquartile_mean, [one - other])
    improvement = stratified_bootstrap(probability_of_improvement, [one], [other])
    means = (float(interquartile_mean([values])) for values in (one, other))
    return Found(*means, difference, improvement, verdict(claim.direction, difference, improvement))


def verdict(direction: Direction, difference: Interval, improvement: Interval) -> str:
    """Whether a claim holds.

    That one is more needs both intervals on its side, of zero and of one half; that it is not less needs the interval of the
    difference above minus the margin.
    """
    low, high = float(difference.low), float(difference.high)
    if direction == "more":
        if low > 0 and improvement.low > 0.5:
            return "holds here"
        return "does not" if high < 0 or low == high == 0 else "not decided"
    low, high = (low, high) if direction == "not less" else (-high, -low)
    if low > -MARGIN:
        return "holds here"
    return "does not" if high < -MARGIN else "not decided"


def pairs(result: Result, place: str, claim: Claim) -> tuple[np.ndarray, np.ndarray]:
    """Numbers [seed] of both contenders of a claim, over the seeds that both have."""
    ones, others = (by_seed(result, place, name) for name in (claim.one, claim.other))
    seeds = sorted(ones.keys() & others.keys())
    both = [_both(ones[seed], others[seed], claim.metric) for seed in seeds]
    found = np.array([each for each in both if each is not None], np.float64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def by_seed(result: Result, place: str, contender: str) -> dict[int, Run]:
    """The runs of a contender that gave something."""
    return {run["repeat"]: run for run in runs_of(result["runs"], place, contender) if "error" not in run}


def _both(one: Run, other: Run, metric: str) -> tuple[float, float] | None:
    special: dict[str, Callable[..., tuple[float, float]]] = {AT_EQUAL: at_equal, BELOW_EQUAL: below_equal}
    if metric in special:
        return special[metric](*(course(run, name) for run in (one, other) for name in (_DIVERGENCE, "pass@1")))
    if metric not in one["values"] or metric not in other["values"]:
        return None
    return one["values"][metric], other["values"][metric]


def course(run: Run, metric: str) -> np.ndarray:
    """A metric at all points of a run."""
    return np.array([float(value) for value in run["course"][metric].split()])


def at_equal(
    far: Sequence[float], score: Sequence[float], other_far: Sequence[float], other_score: Sequence[float]
) -> tuple[float, float]:
    """Scores of two courses at the largest divergence that both reached.

    Args:
      far: [point] divergences of the one, in nats; points are sorted by them, and straight lines lie between.
      score: [point] what it reached there.
      other_far: divergences of the other.
      other_score: what that reached.
    """
    common = min(max(far), max(other_far))
    return float(_at(far, score, [common])[0]), float(_at(other_far, other_score, [common])[0])


def below_equal(
    far: Sequence[float], score: Sequence[float], other_far: Sequence[float], other_score: Sequence[float]
) -> tuple[float, float]:
    """Mean scores of two courses over all divergences that both reached; arguments as of `at_equal`."""
    places = np.linspace(max(min(far), min(other_far)), min(max(far), max(other_far)), 101)
    return float(np.mean(_at(far, score, places))), float(np.mean(_at(other_far, other_score, places)))


def _at(far: Sequence[float], score: Sequence[float], places: Sequence[float] | np.ndarray) -> np.ndarray:
    order = np.argsort(far, kind="stable")
    return np.interp(places, np.asarray(far)[order], np.asarray(score)[order])


def measured_places(results: Results, claim: Claim) -> list[str]:
    """Where a claim's part was measured: its name, or the weights of a soup."""
    result = results.get(claim.part)
    return list(dict.fromkeys(run["env"] for run in result["runs"])) if result else []
