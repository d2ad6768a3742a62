"""Table and figure of `preference_learning.py`, and their place in benchmarks/README.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import show_number
from matplotlib.figure import Figure
from multimodal_study import Result, Run, mean_and_error, runs_of, show_mean
from multimodal_tables import note
from preference_learning import ENV, FLIPS, METHODS, REFERENCES, contender
from render import publish

from maxent_rl.pictures.style import FAINT, INK, colours, heading, save, style

MARKERS = "<!-- preference-learning:begin -->", "<!-- preference-learning:end -->"
LABELS = {
    "uniform": "uniform actions",
    "data": "the data",
    "better half": "better half of the data's episodes",
    "oracle": "oracle",
    "bc": "BC on all segments",
    "sft": "BC, then on the preferred (SFT)",
    "cpl": "CPL (bias 0.5)",
    "cpl-unbiased": "CPL (bias 1)",
    "cpl-bc": "CPL-BC",
    "cpl-kl": "CPL-KL",
    "reward": "fitted reward, then SAC",
}


def render(results: Path, readme: Path, figure: Path) -> None:
    """Writes table and figure of what has been measured.

    Raises:
      BenchmarkError: nothing has been measured, or the markers are missing.
    """
    publish(results, readme, figure, MARKERS, table, draw, "Returns, and the likelihood of the data")


def table(result: Result) -> str:
    """Returns by method and share of wrong labels, each with its place between uniform actions (0) and the better half (1)."""
    flips = _flips(result)
    heads = [f"return, {flip:.0%} of the labels wrong" for flip in flips]
    lines = [f"| {ENV} | {' | '.join([*heads, 'held-out accuracy', 'log-probability'])} |"]
    lines += ["| --- |" + " ---: |" * (len(heads) + 2)]
    failed = []
    for name in (*REFERENCES, *METHODS):
        by_flip = [_runs(result, name, flip) for flip in flips]
        if not any(by_flip):
            failed += (
                [LABELS[name]] if any(runs_of(result["runs"], ENV, contender(name, flip)) for flip in flips) else []
            )
            continue
        once = len({contender(name, flip) for flip in flips}) == 1
        shown = [_cell(result, runs) if not (once and index) else "" for index, runs in enumerate(by_flip)]
        more = [show_mean(_values(by_flip[0], metric)) for metric in ("held_out_accuracy", "held_out_log_prob")]
        lines.append(f"| {' | '.join([LABELS[name], *shown, *more])} |")
    return "\n".join([*lines, "", note({**result, "runs": _learned(result)}, failed)])


def _cell(result: Result, runs: Sequence[Run]) -> str:
    values = _values(runs, "return")
    if not values:
        return ""
    share = scaled(result, mean_and_error(values)[0])
    return show_mean(values) if share is None else f"{show_mean(values)} ({share:.0%})"


def scaled(result: Result, value: float) -> float | None:
    """A return on the scale on which uniform actions are 0 and the better half of the data is 1."""
    low, high = (_values(_runs(result, name, 0.0), "return") for name in ("uniform", "better half"))
    return (value - low[0]) / (high[0] - low[0]) if low and high and high[0] != low[0] else None


def _runs(result: Result, name: str, flip: float) -> list[Run]:
    return [run for run in runs_of(result["runs"], ENV, contender(name, flip)) if "error" not in run]


def _values(runs: Sequence[Run], metric: str) -> list[float]:
    return [run["values"][metric] for run in runs if metric in run["values"]]


def _learned(result: Result) -> list[Run]:
    return [run for run in result["runs"] if run["contender"] not in REFERENCES] or result["runs"]


def _flips(result: Result) -> list[float]:
    found = {run["settings"].get("flip") for run in result["runs"]}
    return sorted(flip for flip in found if flip is not None) or [FLIPS[0]]


_SHORT = {"bc": "BC", "sft": "SFT"}


def draw(result: Result, path: Path) -> None:
    """Draws the returns by method and share of wrong labels, and how likely the data stays under CPL with either bias."""
    figure = Figure(figsize=(13.0, 5.0), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1.0))
    _returns(left, result)
    _likelihood(right, result)
    save(figure, path, dpi=110)


def _returns(axes: Any, result: Result) -> None:
    flips, names = _flips(result), [name for name in METHODS if any(_runs(result, name, f) for f in _flips(result))]
    width = 0.8 / len(flips)
    for index, (flip, colour) in enumerate(zip(flips, colours(len(flips)), strict=True)):
        for place, name in enumerate(names):
            values = _values(_runs(result, name, flip), "return")
            where = place + (index - (len(flips) - 1) / 2) * width
            axes.plot([where] * len(values), values, "o", color=colour, markersize=5, alpha=0.7)
            if values:
                mean = float(np.mean(values))
                axes.plot([where - width / 3, where + width / 3], [mean, mean], color=colour, linewidth=2)
        axes.plot([], [], "o", color=colour, label=f"{flip:.0%} wrong labels")
    for name in REFERENCES:
        values = _values(_runs(result, name, 0.0), "return")
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
        runs = [run for run in _runs(result, name, _flips(result)[0]) if run.get("log_prob")]
        if runs:
            curves = np.array([[value for _, value in run["log_prob"]] for run in runs])
            steps = [step for step, _ in runs[0]["log_prob"]]
            axes.plot(steps, curves.mean(axis=0), color=colour, linewidth=2, label=LABELS[name])
            axes.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    style(axes)
    axes.set_xlabel("update", color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=9)
    heading(axes, "How likely the data stays", "mean log-probability of the actions in the batches")
