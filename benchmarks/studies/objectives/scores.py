"""What the runs say of each competitor: scores by task and seed, and how it compares with the one compared with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmarks.lab.statistics import interquartile
from benchmarks.lab.study import Result, Results
from benchmarks.studies.objectives.setting import BASE, BUDGETS, START, Defaults, ordered
from maxent_rl.reports.statistics import Interval, probability_of_improvement, stratified_bootstrap


class Place(NamedTuple):
    """A competitor's place on the board.

    Attributes:
      name: whose.
      score: interquartile mean over tasks and seeds.
      difference: interquartile mean of the differences from the one compared with, seed by seed.
      chance: that a run of it scores higher than one of that.
      equal: whether every seed has the very same score as with that.
    """

    name: str
    score: Interval
    difference: Interval
    chance: Interval
    equal: bool

    @property
    def verdict(self) -> str:
        """`better` or `worse` where the difference's interval leaves out zero, `equal` where no seed differs, else nothing."""
        if self.name == BASE:
            return ""
        if self.equal:
            return "equal"
        return "better" if self.difference.low > 0 else "worse" if self.difference.high < 0 else ""


def tasks(result: Result) -> list[str]:
    """Those that the one compared with has run on, in their order."""
    found = {run["env"] for run in result["runs"] if run["contender"] == BASE and "error" not in run}
    return [task for task in BUDGETS if task in found]


def whole_tasks(result: Result) -> list[str]:
    """Those on which everyone has run who has run on any, as a board over tasks needs; if there is none, the first."""
    there = {(run["env"], run["contender"]) for run in result["runs"]}
    everyone = {contender for _, contender in there}
    found = tasks(result)
    return [task for task in found if all((task, name) in there for name in everyone)] or found[:1]


def with_start(results: Results, part: str) -> Result:
    """The result of a part; the warm start, which learns nothing, is measured in one part and belongs to both."""
    runs = results[part]["runs"]
    if part != Defaults.part and Defaults.part in results:
        runs = [*(run for run in results[Defaults.part]["runs"] if run["contender"] == START), *runs]
    return {**results[part], "runs": runs}


def scores(result: Result, metric: str) -> dict[str, dict[str, list[float]]]:
    """A metric of those who ran, by competitor and task."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in ordered(result["runs"])}
    for run in sorted(result["runs"], key=lambda run: int(run["repeat"])):
        value = run.get("values", {}).get(metric)
        if value is not None:
            found[run["contender"]].setdefault(run["env"], []).append(float(value))
    return {name: by_task for name, by_task in found.items() if by_task}


def board(result: Result, metric: str = "pass@1") -> list[Place]:
    """Those who ran on all tasks that are done, the best first, by the difference from the one compared with."""
    found, wanted = scores(result, metric), whole_tasks(result)
    rows = {name: [np.array(own[task]) for task in wanted] for name, own in found.items() if set(wanted) <= own.keys()}
    if BASE not in rows:
        return []
    places = [_place(name, own, rows[BASE]) for name, own in rows.items()]
    return sorted(places, key=lambda place: -float(place.difference.estimate))


def _place(name: str, own: list[np.ndarray], base: list[np.ndarray]) -> Place:
    apart = [list(mine - theirs) for mine, theirs in zip(own, base, strict=True)]
    chance = stratified_bootstrap(probability_of_improvement, own, base)
    equal = not any(map(any, apart))
    return Place(name, interquartile([list(mine) for mine in own]), interquartile(apart), chance, equal)
