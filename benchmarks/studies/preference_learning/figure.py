"""The study's figure: returns by method and share of wrong labels, and how likely the data stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.lab.measure import show_number
from benchmarks.lab.study import Result, Results
from benchmarks.studies.preference_learning.setting import ENV, LABELS, METHODS, REFERENCES
from benchmarks.studies.preference_learning.tables import flips_of, runs_with, values_of
from maxent_rl.pictures.style import FAINT, INK, colours, heading, save, style

_SHORT = {"bc": "BC", "sft": "SFT"}


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Draws the figure, and says what it shows."""
    path = folder / "preference_learning.png"
    draw(results["preference_learning"], path)
    return {"Returns, and the likelihood of the data": path}


def draw(result: Result, path: Path) -> None:
    """Draws the returns by method and share of wrong labels, and how likely the data stays under CPL with either bias."""
    figure = Figure(figsize=(13.0, 5.0), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1.0))
    _returns(left, result)
    _likelihood(right, result)
    save(figure, path, dpi=110)


def _returns(axes: Any, result: Result) -> None:
    flips, names = (
        flips_of(result),
        [name for name in METHODS if any(runs_with(result, name, f) for f in flips_of(result))],
    )
    width = 0.8 / len(flips)
    for index, (flip, colour) in enumerate(zip(flips, colours(len(flips)), strict=True)):
        for place, name in enumerate(names):
            values = values_of(runs_with(result, name, flip), "return")
            where = place + (index - (len(flips) - 1) / 2) * width
            axes.plot([where] * len(values), values, "o", color=colour, markersize=5, alpha=0.7)
            if values:
                mean = float(np.mean(values))
                axes.plot([where - width / 3, where + width / 3], [mean, mean], color=colour, linewidth=2)
        axes.plot([], [], "o", color=colour, label=f"{flip:.0%} wrong labels")
    for name in REFERENCES:
        values = values_of(runs_with(result, name, 0.0), "return")
        if values:
            axes.axhline(values[0], color=FAINT, linewidth=1, linestyle=":")
            axes.annotate(
                f"{LABELS[name].split(' of ')[0]} {show_number(values[0])}", (len(names) - 0.45, values[0]),
                color=FAINT, fontsize=8.5, ha="left", va="top" if name == "oracle" else "bottom",
            )  # fmt: skip
    shown = [_SHORT.get(name, LABELS[name]) for name in names]
    axes.set_xticks(range(len(names)), [text.replace(", ", ",\n").replace(" (", "\n(") for text in shown])
    axes.set_xlim(-0.6, len(names) + 0.7)  # room for the names of the lines, which may lie close together
    style(axes)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    heading(axes, f"Learning from preferences on {ENV}", "return of each seed, and their mean")


def _likelihood(axes: Any, result: Result) -> None:
    for name, colour in zip(("cpl", "cpl-unbiased"), colours(2), strict=True):
        runs = [run for run in runs_with(result, name, flips_of(result)[0]) if run.get("log_prob")]
        if runs:
            curves = np.array([[value for _, value in run["log_prob"]] for run in runs])
            steps = [step for step, _ in runs[0]["log_prob"]]
            axes.plot(steps, curves.mean(axis=0), color=colour, linewidth=2, label=LABELS[name])
            axes.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    style(axes)
    axes.set_xlabel("update", color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=9)
    heading(axes, "How likely the data stays", "mean log-probability of the actions in the batches")
