"""The study's figure: returns and broken promises by how much chance decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.lab.statistics import mean_and_error
from benchmarks.lab.study import Result, Results
from benchmarks.studies.dichotomy.setting import LABELS
from benchmarks.studies.dichotomy.tables import TITLES, chances_of, values_of
from benchmarks.studies.dichotomy.task import bandit_forms
from maxent_rl.pictures.style import FAINT, INK, colours, heading, save, style

_DRAWN = ("bc", "dt", "doc", "unconstrained", "future-vae")


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Draws the figure, and says what it shows."""
    path = folder / "dichotomy.png"
    draw(results["dichotomy"], path)
    return {"Returns and broken promises": path}


def draw(result: Result, path: Path) -> None:
    """Draws returns above and broken promises below, bandit on the left and lake on the right."""
    figure = Figure(figsize=(12.5, 8.0), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 2)
    for column, family in enumerate(TITLES):
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
    chances = chances_of(result, family)
    for method, colour in zip(_DRAWN, colours(len(_DRAWN)), strict=True):
        each = [values_of(result, family, method, chance, metric) for chance in chances]
        if all(each) and chances:
            mean, error = (np.array(numbers) for numbers in zip(*map(mean_and_error, each), strict=True))
            axes.plot(chances, mean, color=colour, linewidth=2, marker="o", markersize=4, label=LABELS[method])
            axes.fill_between(chances, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
    style(axes)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel(TITLES[family].split(", ")[1], color=INK, fontsize=9)
