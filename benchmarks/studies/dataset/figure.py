"""The study's figure: what each agent reaches as colour over the plane of TQ and SACo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks.lab.study import Results
from benchmarks.studies.dataset.claims import Point, points
from benchmarks.studies.dataset.setting import AGENTS, FAMILIES, LABELS
from maxent_rl.data.measures.findings import HIGH
from maxent_rl.pictures.style import FAINT, GRID, INK, save

MARKS = {"random": "o", "replay": "s", "mixed": "D", "noisy": "^", "expert": "*"}
"""By kind of data."""
_MAP = colormaps["viridis"]


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Draws the figure, and says what it shows."""
    path = folder / "dataset.png"
    draw(points(results["dataset"]), path)
    return {"What each agent reaches, over TQ and SACo of the data": path}


def draw(data: Sequence[Point], path: Path) -> None:
    """Draws omega of each agent as colour over the TQ-SACo plane, one panel for each."""
    agents = [agent for agent in AGENTS if agent in data[0].best]
    columns = 3
    rows = -(-len(agents) // columns)
    figure = Figure(figsize=(4.1 * columns + 0.9, 3.6 * rows + 0.6), layout="constrained", facecolor="white")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(agents) :]:
        axes.set_visible(False)
    for axes, agent in zip(panels.flat, agents, strict=False):
        marks = _panel(axes, data, agent)
    for axes in panels[-1]:
        axes.set_xlabel("TQ (0: uniform actions, 1: the online run's best)", color=INK, fontsize=9)
    for axes in panels[:, 0]:
        axes.set_ylabel("SACo (1: the replay data)", color=INK, fontsize=9)
    bar = figure.colorbar(marks, ax=panels, shrink=0.6, aspect=30)
    bar.set_label("omega: best evaluation on the scale of TQ", color=INK, fontsize=9)
    bar.outline.set_visible(False)
    handles = [
        panels.flat[0].plot([], [], mark, color=FAINT, linestyle="", markersize=8, label=kind)[0]
        for kind, mark in MARKS.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(MARKS), frameon=False, fontsize=10)
    save(figure, path, dpi=110)


def _panel(axes: Any, data: Sequence[Point], agent: str) -> Any:
    """One agent's panel; gives what the colour bar needs."""
    for kind, mark in MARKS.items():
        own = [point for point in data if point.kind == kind]
        size = 150 if mark == "*" else 65
        marks = axes.scatter(
            [point.tq for point in own], [point.saco for point in own], c=[point.best[agent] for point in own],
            marker=mark, s=size, cmap=_MAP, vmin=0.0, vmax=1.0, edgecolors="white", linewidths=0.7,
        )  # fmt: skip
    axes.axvline(HIGH, color=GRID, linewidth=1.2, zorder=0)
    axes.axhline(HIGH, color=GRID, linewidth=1.2, zorder=0)
    family = next(name for name, agents in FAMILIES.items() if agent in agents)
    axes.set_title(f"{LABELS[agent]}  ({family})", loc="left", color=INK, fontsize=11, fontweight="bold")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=FAINT, labelsize=9)
    return marks
