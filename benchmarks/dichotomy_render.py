"""Tables and figure of `dichotomy_study.py`, and their place in benchmarks/README.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dichotomy_study import METHODS
from dichotomy_task import bandit_forms
from matplotlib.figure import Figure
from multimodal_study import Result, Run, mean_and_error
from render import publish

from maxent_rl.pictures.style import FAINT, INK, colours, heading, save, style

MARKERS = "<!-- dichotomy:begin -->", "<!-- dichotomy:end -->"
LABELS = {
    "bc": "cloning (BC)",
    "dt": "largest return asked for (DT)",
    "doc": "dichotomy of control (DoC)",
    "unconstrained": "without the constraint",
    "future-vae": "Future-VAE",
    "published-sign": "sign of the published code",
}
_TITLES = {
    "BernoulliBandit": "Bandit, arm 0 pays with probability",
    "FrozenLake": "FrozenLake, probability of slipping",
}
_DRAWN = ("bc", "dt", "doc", "unconstrained", "future-vae")


def render(results: Path, readme: Path, figure: Path) -> None:
    """Writes tables and figure of what has been measured.

    Raises:
      BenchmarkError: nothing has been measured, or the markers are missing.
    """
    publish(results, readme, figure, MARKERS, tables, draw, "Returns and broken promises")


def tables(result: Result) -> str:
    """For each family of worlds the returns, and how far from each promise what came of it was."""
    parts = []
    for family, title in _TITLES.items():
        for metric, what in (("return", "return"), ("gap", "distance from the promise")):
            chances = _chances(result, family)
            lines = [
                f"| {title}: {what} | {' | '.join(f'{chance:.2g}' for chance in chances)} |",
                "| --- |" + " ---: |" * len(chances),
            ]
            for method in METHODS:
                each = [_values(result, family, method, chance, metric) for chance in chances]
                if any(each):
                    lines.append(f"| {LABELS[method]} | {' | '.join(map(_cell, each))} |")
            parts.append("\n".join(lines))
    seeds = max(run["repeat"] for run in result["runs"]) + 1
    note = f"Mean ± standard error of {seeds} seeds, each with data of its own" + (
        "." if result["complete"] else "; not complete."
    )
    return "\n\n".join([*parts, note])


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean, error = mean_and_error(values)
    return f"{mean:.2f} ± {error:.2f}"


def _runs(result: Result, family: str) -> list[Run]:
    return [run for run in result["runs"] if run["env"].startswith(family) and "error" not in run]


def _chances(result: Result, family: str) -> list[float]:
    return sorted({run["settings"]["chance"] for run in _runs(result, family)})


def _values(result: Result, family: str, method: str, chance: float, metric: str) -> list[float]:
    return [
        run["values"][metric]
        for run in _runs(result, family)
        if (run["contender"], run["settings"]["chance"]) == (method, chance) and metric in run["values"]
    ]


def draw(result: Result, path: Path) -> None:
    """Draws returns above and broken promises below, bandit on the left and lake on the right."""
    figure = Figure(figsize=(12.5, 8.0), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 2)
    for column, family in enumerate(_TITLES):
        for row, metric in enumerate(("return", "gap")):
            _lines(axes[row, column], result, family, metric)
    bandit, lake = axes[0]
    fine = np.linspace(0.02, 0.48, 60)
    forms = [bandit_forms(chance) for chance in fine]
    for name in ("cloning", "transformer", "dichotomy"):
        bandit.plot(fine, [getattr(form, name) for form in forms], color=FAINT, linewidth=1, linestyle=":", zorder=0)
    heading(bandit, "Bandit", "mean reward; dotted: the closed forms of BC, DT and DoC")
    heading(lake, "FrozenLake", "share of episodes that reach the goal")
    heading(axes[1, 0], "Promises on the bandit", "distance of what was earned from what was promised")
    heading(axes[1, 1], "Promises on FrozenLake", "the same; DT in returns, the others in discounted ones")
    handles, labels = lake.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=10)
    save(figure, path, dpi=110)


def _lines(axes: Any, result: Result, family: str, metric: str) -> None:
    chances = _chances(result, family)
    for method, colour in zip(_DRAWN, colours(len(_DRAWN)), strict=True):
        each = [_values(result, family, method, chance, metric) for chance in chances]
        if all(each) and chances:
            mean, error = (np.array(numbers) for numbers in zip(*map(mean_and_error, each), strict=True))
            axes.plot(chances, mean, color=colour, linewidth=2, marker="o", markersize=4, label=LABELS[method])
            axes.fill_between(chances, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
    style(axes)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel(_TITLES[family].split(", ")[1], color=INK, fontsize=9)
