"""The study's figure: the seeds' scores by method and data set, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.lab.measure import show_number
from benchmarks.lab.study import Result, Results
from benchmarks.studies.offline_control.setting import LABELS
from benchmarks.studies.offline_control.tables import methods_of, places_of, runs_at, score, scores
from maxent_rl.pictures.style import FAINT, INK, colours, heading, save, style


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Draws the figure, and says what it shows."""
    path = folder / "offline_control.png"
    draw(results["offline_control"], path)
    return {"Scores by method and data set, and learning curves": path}


def draw(result: Result, path: Path) -> None:
    """Draws the seeds' scores by method and data set, and below them how they came about."""
    places = places_of(result)
    figure = Figure(figsize=(4.4 * len(places) + 0.6, 7.0), layout="constrained", facecolor="white")
    panels = figure.subplots(2, len(places), squeeze=False, sharey="row")
    named = dict(zip(methods_of(result), colours(max(len(methods_of(result)), 1)), strict=False))
    for above, below, where in zip(panels[0], panels[1], places, strict=True):
        _points(above, result, where, named)
        _curves(below, result, where, named)
    save(figure, path, dpi=110)


def _points(axes: Any, result: Result, where: str, named: Mapping[str, Any]) -> None:
    for place, (name, colour) in enumerate(named.items()):
        found = scores(result, where, name)
        axes.plot([place] * len(found), found, "o", color=colour, markersize=6, alpha=0.75)
        if found:
            axes.plot([place - 0.25, place + 0.25], [np.mean(found)] * 2, color=colour, linewidth=2)
    for value in scores(result, where, "data"):
        axes.axhline(value, color=FAINT, linewidth=1, linestyle=":")
        axes.annotate(f"the data {show_number(value)}", (-0.45, value), color=FAINT, fontsize=8.5, va="bottom")
    axes.set_xlim(-0.5, len(named) - 0.5)
    axes.set_xticks(range(len(named)), [LABELS.get(name, name) for name in named], color=INK)
    style(axes)
    heading(axes, where, "score of each seed, and their mean (random 0, expert 100)")


def _curves(axes: Any, result: Result, where: str, named: Mapping[str, Any]) -> None:
    for name, colour in named.items():
        runs = [run for run in runs_at(result, where, name) if run.get("returns")]
        if runs:
            steps = [step for step, _ in runs[0]["returns"]]
            curves = np.array([[score(result, where, value) for _, value in run["returns"]] for run in runs])
            axes.plot(steps, curves.mean(axis=0), color=colour, linewidth=2, label=LABELS.get(name, name))
            axes.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("update", color=INK, fontsize=9)
    style(axes)
    axes.legend(frameon=False, fontsize=9)
    heading(axes, "Learning curves", "mean score, and the range of the seeds")
