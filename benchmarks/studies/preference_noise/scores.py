"""What was measured, by size of network, and the statistics of it that tables, claims and figure share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.lab.study import Result
from benchmarks.studies.preference_noise.setting import EVERYONE
from benchmarks.studies.preference_noise.task import KINDS, SCENARIOS
from maxent_rl.reports.statistics import Interval, mean, stratified_bootstrap

Sized = Mapping[str, Any]
"""Of one size of network: settings, seconds, machine, and by metric (win_mass, accuracy), method and scenario one number for
each seed."""
BySize = Mapping[int, Sized]
"""By units of the hidden layers."""


def by_size(result: Result) -> dict[int, dict[int, Sized]]:
    """What has been measured, by number of items and units of the hidden layers."""
    found: dict[int, dict[int, Sized]] = {}
    for env in dict.fromkeys(run["env"] for run in result["runs"]):
        runs = [
            run for run in result["runs"] if run["env"] == env and run["contender"] == EVERYONE and "error" not in run
        ]
        if runs:
            first = runs[0]
            sized = {name: first[name] for name in ("settings", "seconds", "machine")}
            for metric in ("win_mass", "accuracy"):
                sized[metric] = {
                    name: {scenario: [run[metric][name][scenario] for run in runs] for scenario in scenarios}
                    for name, scenarios in first[metric].items()
                }
            found.setdefault(first["settings"]["items"], {})[first["settings"]["hidden"]] = sized
    return {items: dict(sorted(sizes.items())) for items, sizes in sorted(found.items())}


def values(result: Sized, name: str, scenario: str, metric: str = "win_mass") -> np.ndarray:
    """[seed] of a method in a scenario."""
    return np.asarray(result[metric][name][scenario], np.float64)


def whole(result: Sized, name: str, metric: str = "win_mass", kind: str | None = None) -> list[np.ndarray]:
    """[seed] of a method for each scenario, of one kind or of all."""
    return [values(result, name, scenario, metric) for scenario in of_kind(kind)]


def of_kind(kind: str | None = None) -> list[str]:
    """The scenarios of a kind, or all."""
    kinds = KINDS if kind is None else (kind,)
    return [scenario for scenario in SCENARIOS if any(scenario.startswith(each) for each in kinds)]


def leader(result: Sized, scenario: str, names: Sequence[str]) -> str:
    """Who has the highest mean WinMass in a scenario."""
    return max(names, key=lambda name: float(values(result, name, scenario).mean()))


def best_counts(result: Sized, names: Sequence[str]) -> dict[str, int]:
    """In how many scenarios each method has the highest mean WinMass among these."""
    leaders = [leader(result, scenario, names) for scenario in SCENARIOS]
    return {name: leaders.count(name) for name in names}


def gain(result: Sized, name: str, base: str, among: Sequence[str]) -> float:
    """How much higher the mean WinMass over some scenarios is than that of another method, as a share of the latter."""
    of = {each: np.mean([values(result, each, scenario).mean() for scenario in among]) for each in (name, base)}
    return float(of[name] / of[base] - 1.0)


def interval(scores: Sequence[np.ndarray]) -> Interval:
    """Mean over scenarios and seeds, with its interval over seeds."""
    return stratified_bootstrap(mean, list(scores))


def certain(differences: np.ndarray) -> bool:
    """Whether the interval of the mean difference [seed] leaves out 0."""
    found = interval([differences])
    return bool(found.low > 0 or found.high < 0)
