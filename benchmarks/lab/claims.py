"""What papers claim, as differences between two contenders of a study, and whether they are seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np

from benchmarks.lab.study import Result, Results, Run, runs_of
from maxent_rl.reports.statistics import (
    Interval,
    interquartile_mean,
    probability_of_improvement,
    stratified_bootstrap,
)

Direction = Literal["more", "not less", "not more"]
MARGIN = 0.02
"""Differences below this do not count against "not less" and "not more"."""
Pairs = Callable[[Run, Run], tuple[float, float]]
"""What two runs have of a number that only a pair of contenders has."""


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


def judged(result: Result, place: str, claim: Claim, special: Mapping[str, Pairs] | None = None) -> Found | None:
    """What came of a claim at a place; None where it has not been measured.

    Args:
      result: of the claim's part.
      place: the environment of the runs.
      claim: what is claimed.
      special: by name, metrics that only a pair of runs has.
    """
    one, other = pairs(result, place, claim, special)
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


def pairs(
    result: Result, place: str, claim: Claim, special: Mapping[str, Pairs] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers [seed] of both contenders of a claim, over the seeds that both have."""
    ones, others = (by_seed(result, place, name) for name in (claim.one, claim.other))
    both = []
    for seed in sorted(ones.keys() & others.keys()):
        one, other, metric = ones[seed], others[seed], claim.metric
        if special and metric in special:
            both.append(special[metric](one, other))
        elif metric in one["values"] and metric in other["values"]:
            both.append((one["values"][metric], other["values"][metric]))
    found = np.array(both, np.float64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def by_seed(result: Result, place: str, contender: str) -> dict[int, Run]:
    """The runs of a contender that gave something."""
    return {run["repeat"]: run for run in runs_of(result["runs"], place, contender) if "error" not in run}


def course(run: Run, metric: str) -> np.ndarray:
    """A metric at all points of a run."""
    return np.array([float(value) for value in run["course"][metric].split()])


def measured_places(results: Results, claim: Claim) -> list[str]:
    """Where a claim's part was measured."""
    return places(results[claim.part]) if claim.part in results else []


def places(result: Result) -> list[str]:
    """The environments of a part's runs, in their order."""
    return list(dict.fromkeys(run["env"] for run in result["runs"]))


HEAD = ("Paper", "Claim", "Number", "Here", "Compared with", "Difference", "Chance to be above", "Verdict")
"""Of a table whose rows are `row`s."""
NOTE = (
    "Interquartile means over seeds, in brackets 95 % intervals from the stratified bootstrap: of the differences seed by "
    "seed, and of how likely a run of the one is above one of the other."
)


def row(claim: Claim, place: str, found: Found | None, labels: Mapping[str, str]) -> list[str]:
    """A claim in the table, and what came of it.

    Args:
      claim: what is claimed.
      place: where it was measured, told where it is not the part itself.
      found: as `judged` gives it.
      labels: contenders as people read them.
    """
    begin = [claim.paper, claim.says, claim.metric + ("" if place == claim.part else f" ({place})")]
    if found is None:
        return [*begin, labels[claim.one], labels[claim.other], "", "", "not measured"]
    difference, chance = found.difference, found.improvement
    return [
        *begin,
        f"{labels[claim.one]}: {found.one:.3f}",
        f"{labels[claim.other]}: {found.other:.3f}",
        f"{difference.estimate:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})",
        f"{chance.estimate:.2f} ({chance.low:.2f} to {chance.high:.2f})",
        found.verdict,
    ]
