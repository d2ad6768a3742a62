"""Table and figure of `offline_control.py`, and their place in benchmarks/README.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import show_number
from matplotlib.figure import Figure
from multimodal_study import Result, Run, runs_of, show_mean
from offline_control import METHODS, REFERENCES
from offline_tables import AGENT_NAMES, CONTROL_MARKERS
from render import publish

from maxent_rl.pictures.style import FAINT, INK, colours, heading, save, style


def render(results: Path, readme: Path, figure: Path) -> None:
    """Writes table and figure of what has been measured.

    Raises:
      BenchmarkError: nothing has been measured, or the markers are missing.
    """
    publish(results, readme, figure, CONTROL_MARKERS, table, draw, "Scores by method and data set, and learning curves")


def table(result: Result) -> str:
    """Normalised scores, one line for each data set, and the returns that they are made with."""
    names = _methods(result)
    heads = ["Data set", *(AGENT_NAMES.get(name, name) for name in names), "the data", "random", "expert"]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for where in _places(result):
        cells = [show_mean(scores(result, where, name)) or _failed(result, where, name) for name in names]
        cells.append(show_mean(scores(result, where, "data")))
        cells += [show_mean(_returns(result, where, name)) for name in ("random", "expert")]
        lines.append("| " + " | ".join([where, *cells]) + " |")
    return "\n".join([*lines, "", _note(result)])


def scores(result: Result, where: str, name: str) -> list[float]:
    """Each seed's 100 * (return - random) / (expert - random)."""
    return [score(result, where, value) for value in _returns(result, where, name)]


def score(result: Result, where: str, value: float) -> float:
    """A return on the scale on which uniform actions are 0 and the expert is 100; NaN where those are not known."""
    low, high = (_returns(result, where, name) for name in ("random", "expert"))
    return 100.0 * (value - low[0]) / (high[0] - low[0]) if low and high and high[0] != low[0] else float("nan")


def draw(result: Result, path: Path) -> None:
    """Draws the seeds' scores by method and data set, and below them how they came about."""
    places = _places(result)
    figure = Figure(figsize=(4.4 * len(places) + 0.6, 7.0), layout="constrained", facecolor="white")
    panels = figure.subplots(2, len(places), squeeze=False, sharey="row")
    named = dict(zip(_methods(result), colours(max(len(_methods(result)), 1)), strict=False))
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
    axes.set_xticks(range(len(named)), [AGENT_NAMES.get(name, name) for name in named], color=INK)
    style(axes)
    heading(axes, where, "score of each seed, and their mean (random 0, expert 100)")


def _curves(axes: Any, result: Result, where: str, named: Mapping[str, Any]) -> None:
    for name, colour in named.items():
        runs = [run for run in _runs(result, where, name) if run.get("returns")]
        if runs:
            steps = [step for step, _ in runs[0]["returns"]]
            curves = np.array([[score(result, where, value) for _, value in run["returns"]] for run in runs])
            axes.plot(steps, curves.mean(axis=0), color=colour, linewidth=2, label=AGENT_NAMES.get(name, name))
            axes.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("update", color=INK, fontsize=9)
    style(axes)
    axes.legend(frameon=False, fontsize=9)
    heading(axes, "Learning curves", "mean score, and the range of the seeds")


def _note(result: Result) -> str:
    settings = result["settings"]
    seeds = max((len(_runs(result, where, name)) for where in _places(result) for name in _methods(result)), default=0)
    cql = settings["cql_updates"] or settings["updates"]
    layers = " x ".join(map(str, settings["hidden_sizes"]))
    machines = ", ".join(dict.fromkeys(run["machine"] for run in result["runs"]))
    text = (
        f"Scores: mean ± standard error of {seeds} seed{'' if seeds == 1 else 's'}, each the mean of the last three "
        f"evaluations of {settings['eval_episodes']} episodes; random and expert as returns. {settings['updates']:,} updates "
        f"({cql:,} of CQL, with {settings['cql_actions']} actions of each kind), batches of {settings['batch_size']}, "
        f"layers of {layers}; {machines}."
    )
    return text if result.get("complete") else f"{text} Not complete."


def _failed(result: Result, where: str, name: str) -> str:
    return "failed" if any("error" in run for run in runs_of(result["runs"], where, name)) else ""


def _returns(result: Result, where: str, name: str) -> list[float]:
    return [run["values"]["return"] for run in _runs(result, where, name)]


def _runs(result: Result, where: str, name: str) -> list[Run]:
    return [run for run in runs_of(result["runs"], where, name) if "error" not in run]


def _methods(result: Result) -> list[str]:
    return [name for name in METHODS if any(run["contender"] == name for run in result["runs"])]


def _places(result: Result) -> list[str]:
    return list(dict.fromkeys(run["env"] for run in result["runs"] if run["contender"] not in REFERENCES))
