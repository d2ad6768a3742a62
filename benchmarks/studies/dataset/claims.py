"""What the data set study says of the paper's three findings: rank correlations and differences, with intervals.

An interval is a bootstrap over behaviour policies, all five data sets of one together: they share references and a policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from benchmarks.lab.study import Result
from benchmarks.studies.dataset.setting import DATA, FAMILIES
from maxent_rl.data.measures.findings import HIGH
from maxent_rl.reports.statistics import Interval

RESAMPLES, _CONFIDENCE = 1_000, 0.95
_LAST = 3  # evaluations whose mean is the return "at the end"


class Point(NamedTuple):
    """A data set and what every agent made of it.

    Attributes:
      env: name of the environment.
      behaviour: which online run it comes from.
      kind: random, replay, mixed, noisy or expert.
      tq: trajectory quality.
      saco: state-action coverage.
      best: by agent, the best evaluation of the mean over seeds, 0 being the random data and 1 the online run's best (omega).
      last: by agent, the same for the mean of the last three evaluations.
    """

    env: str
    behaviour: int
    kind: str
    tq: float
    saco: float
    best: dict[str, float]
    last: dict[str, float]


Score = Callable[[Point], float]
Statistic = Callable[[Sequence[Point]], float]


def datasets_of(result: Result) -> list[dict[str, Any]]:
    """All data sets that were made: measures, name, kind, environment and behaviour policy of each."""
    made = [run for run in result["runs"] if run["contender"] == DATA and "error" not in run]
    return [
        run["values"] | {name: run[name] for name in ("env", "name", "kind", "behaviour", "seconds")} for run in made
    ]


def learned(result: Result) -> dict[str, dict[str, Any]]:
    """By data set and agent, the returns [seed, evaluation]."""
    curves: dict[str, dict[str, list[list[float]]]] = {}
    for run in result["runs"]:
        for name, curve in run.get("returns", {}).items():
            own = curves.setdefault(name, {}).setdefault(run["contender"], [])
            own.append([float(value) for value in curve.split()])
    return {name: {agent: np.array(found) for agent, found in own.items()} for name, own in curves.items()}


def points(result: Result) -> list[Point]:
    """The data sets on which all agents of the study have learned; without those whose TQ is undefined."""
    curves = learned(result)
    agents = {agent for own in curves.values() for agent in own}
    found = []
    for data in datasets_of(result):
        own = curves.get(data["name"], {})
        low, high = data["random_return"], data["expert_return"]
        if set(own) != agents or not high > low:
            continue
        best, last = {}, {}
        for agent, returns in own.items():
            curve = (np.mean(returns, axis=0) - low) / (high - low)
            best[agent], last[agent] = float(curve.max()), float(curve[-_LAST:].mean())
        found.append(Point(data["env"], data["behaviour"], data["kind"], data["tq"], data["saco"], best, last))
    return found


def bootstrap(data: Sequence[Point], statistic: Statistic, seed: int = 0) -> Interval:
    """A statistic, and its 95 % interval over resampled behaviour policies; resamples without a value are left out."""
    groups: dict[tuple[str, int], list[Point]] = {}
    for point in data:
        groups.setdefault((point.env, point.behaviour), []).append(point)
    clusters, generator = list(groups.values()), np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        chosen = generator.integers(len(clusters), size=len(clusters))
        drawn.append(statistic([point for index in chosen for point in clusters[index]]))
    defined = np.array(drawn)[np.isfinite(drawn)]
    if not len(defined) or np.ptp(defined) == 0:  # of a single data set, which says nothing of others
        return Interval(statistic(data), float("nan"), float("nan"))
    tail = 50 * (1 - _CONFIDENCE)
    return Interval(statistic(data), *(float(bound) for bound in np.percentile(defined, [tail, 100 - tail])))


def rank_correlation(agent: str, measure: Score, which: str = "best") -> Statistic:
    """Spearman's correlation between what an agent reaches and a measure of the data, over data sets of all environments."""

    def statistic(data: Sequence[Point]) -> float:
        return spearman([getattr(point, which)[agent] for point in data], [measure(point) for point in data])

    return statistic


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation; NaN where one side does not vary."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return float("nan")
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def mean_of(agents: Sequence[str], point: Point, which: str = "best") -> float:
    """Mean of what these agents reach on a data set."""
    return float(np.mean([getattr(point, which)[agent] for agent in agents]))


def region(point: Point) -> tuple[bool, bool]:
    """Whether (TQ, SACo) are high; the bounds are those of `measure`."""
    return point.tq >= HIGH, point.saco >= HIGH


def mean_in(score: Score, wanted: Callable[[bool, bool], bool]) -> Statistic:
    """Mean of a score over the data sets in a region of the plane; NaN where there are none."""

    def statistic(data: Sequence[Point]) -> float:
        values = [score(point) for point in data if wanted(*region(point))]
        return float(np.mean(values)) if values else float("nan")

    return statistic


class Finding(NamedTuple):
    """One of the paper's findings, as numbers.

    Attributes:
      claim: in words.
      numbers: what speaks for it where above 0, by name.
      holds: "yes" where every interval lies above 0, "no" where one lies below it or all reach it, else "in part"; "not told"
        where there is no data set to tell by.
    """

    claim: str
    numbers: dict[str, Interval]
    holds: str


def findings(data: Sequence[Point], which: str = "best") -> list[Finding]:
    """The three findings, each as differences and correlations that are above 0 where it holds."""
    deep, constrained = FAMILIES["DQN family"], FAMILIES["constrained"]

    def family(agents: Sequence[str]) -> Score:
        return lambda point: mean_of(agents, point, which)

    def over(first: Sequence[str], second: Sequence[str]) -> Score:
        return lambda point: mean_of(first, point, which) - mean_of(second, point, which)

    def correlation(agents: Sequence[str], measure: Score) -> Statistic:
        return lambda rows: float(np.mean([rank_correlation(agent, measure, which)(rows) for agent in agents]))

    def apart(score: Score, high: Callable[[bool, bool], bool], low: Callable[[bool, bool], bool]) -> Statistic:
        return lambda rows: mean_in(score, high)(rows) - mean_in(score, low)(rows)

    claims: list[tuple[str, dict[str, Statistic]]] = [
        (
            "The DQN family needs high SACo",
            {
                "rank correlation with SACo": correlation(deep, lambda point: point.saco),
                "high less low SACo": apart(family(deep), lambda tq, saco: saco, lambda tq, saco: not saco),
            },
        ),
        (
            "Constrained methods work with high TQ or high SACo",
            {
                "over the DQN family at high TQ, low SACo": mean_in(
                    over(constrained, deep), lambda tq, saco: tq and not saco
                ),
                "over BC at low TQ, high SACo": mean_in(over(constrained, ("bc",)), lambda tq, saco: saco and not tq),
                "either high less neither": apart(
                    family(constrained), lambda tq, saco: tq or saco, lambda tq, saco: not (tq or saco)
                ),
            },
        ),
        (
            "BC is near the best where TQ is high",
            {
                "rank correlation of BC with TQ": correlation(("bc",), lambda point: point.tq),
                "BC over 0.9 of the best agent at high TQ": mean_in(
                    lambda point: getattr(point, which)["bc"] - 0.9 * max(getattr(point, which).values()),
                    lambda tq, saco: tq,
                ),
            },
        ),
    ]
    found = []
    for claim, statistics in claims:
        numbers = {name: bootstrap(data, statistic) for name, statistic in statistics.items()}
        found.append(Finding(claim, numbers, _verdict(list(numbers.values()))))
    return found


def _verdict(numbers: Sequence[Interval]) -> str:
    numbers = [number for number in numbers if np.isfinite(number.low)]  # no data set may lie in a region, or one alone
    if not numbers:
        return "not told"
    if all(number.low > 0 for number in numbers):
        return "yes"
    if any(number.high < 0 for number in numbers) or not any(number.low > 0 for number in numbers):
        return "no"
    return "in part"
