"""The study's tables: returns by method and chance, and how far from each promise what came of it was."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.lab.statistics import mean_and_error
from benchmarks.lab.study import Result, Results, Run
from benchmarks.studies.dichotomy.setting import LABELS, METHODS

TITLES = {
    "BernoulliBandit": "Bandit, arm 0 pays with probability",
    "FrozenLake": "FrozenLake, probability of slipping",
}


def tables(results: Results) -> str:
    """For each family of worlds the returns, and how far from each promise what came of it was."""
    result, parts = results["dichotomy"], []
    for family, title in TITLES.items():
        for metric, what in (("return", "return"), ("gap", "distance from the promise")):
            chances = chances_of(result, family)
            lines = [
                f"| {title}: {what} | {' | '.join(f'{chance:.2g}' for chance in chances)} |",
                "| --- |" + " ---: |" * len(chances),
            ]
            for method in METHODS:
                each = [values_of(result, family, method, chance, metric) for chance in chances]
                if any(each):
                    lines.append(f"| {LABELS[method]} | {' | '.join(map(_cell, each))} |")
            parts.append("\n".join(lines))
    seeds = max(run["repeat"] for run in result["runs"]) + 1
    note = f"Mean ± standard error of {seeds} seeds, each with data of its own" + (
        "." if result["complete"] else "; not complete."
    )
    return "\n\n".join([*parts, note])


def _runs(result: Result, family: str) -> list[Run]:
    return [run for run in result["runs"] if run["env"].startswith(family) and "error" not in run]


def chances_of(result: Result, family: str) -> list[float]:
    """The probabilities that were measured."""
    return sorted({run["settings"]["chance"] for run in _runs(result, family)})


def values_of(result: Result, family: str, method: str, chance: float, metric: str) -> list[float]:
    """A metric of every seed; empty where the method has none."""
    return [
        run["values"][metric]
        for run in _runs(result, family)
        if (run["contender"], run["settings"]["chance"]) == (method, chance) and metric in run["values"]
    ]


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean, error = mean_and_error(values)
    return f"{mean:.2f} ± {error:.2f}"
