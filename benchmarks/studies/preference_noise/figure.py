"""The figure of the noise study: WinMass of every method in every scenario, and its mean by size of the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks.lab.study import Results
from benchmarks.studies.preference_noise.scores import BySize, by_size, leader, values, whole
from benchmarks.studies.preference_noise.setting import LABELS
from benchmarks.studies.preference_noise.task import KINDS, SCENARIOS, Sizes
from maxent_rl.pictures.style import FAINT, INK, save
from maxent_rl.reports.statistics import mean

_MAP = colormaps["YlGnBu"]
_ROW, _COLUMN, _MARGIN = 0.36, 0.62, 3.6
_FAMILIES = ("reference", "dpo-hard-0.1", "pairwise-fixed", "ppo")  # the first of each family: a line above it


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Draws a figure for each number of items, and says what it shows."""
    pictures = {}
    for items, found in by_size(results["preference_noise"]).items():
        path = folder / ("preference_noise.png" if items == Sizes.items else f"preference_noise-{items}-items.png")
        draw(found, path)
        pictures[f"WinMass of every method in every scenario, {items} items"] = path
    return pictures


def draw(found: BySize, path: Path) -> None:
    """Draws the heat map of the largest network, and beside it the means of all.

    Args:
      found: by units of the hidden layers.
      path: PNG to write.
    """
    hidden, largest = max(found.items())
    names = [name for name in LABELS if all(name in result["win_mass"] for result in found.values())]
    each = np.array([[values(largest, name, scenario).mean() for scenario in SCENARIOS] for name in names])
    means = np.array([[float(mean(whole(result, name))) for result in found.values()] for name in names])
    width = _MARGIN + _COLUMN * (len(SCENARIOS) + len(found) + 1)
    figure = Figure(figsize=(width, _ROW * len(names) + 1.3), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=(len(SCENARIOS), len(found)))
    severities = [scenario.rpartition(" ")[2] for scenario in SCENARIOS]
    leaders = [names.index(leader(largest, scenario, names)) for scenario in SCENARIOS]
    scale = (float(min(each.min(), means.min())), float(max(each.max(), means.max())))
    _cells(left, each, severities, leaders, scale)
    _cells(right, means, [str(size) for size in found], list(means.argmax(axis=0)), scale)
    left.set_yticks(range(len(names)), [LABELS[name] for name in names], color=INK, fontsize=9)
    _kinds(left)
    for axes in (left, right):
        for name in [name for name in _FAMILIES[1:] if name in names]:
            axes.axhline(names.index(name) - 0.5, color="white", linewidth=4)
    _title(left, f"WinMass by scenario, hidden layers of {hidden}", "severity, the mildest first; the best in bold")
    _title(right, "Mean of all", "hidden layers of")
    save(figure, path, dpi=130)


def _cells(
    axes: Any, numbers: np.ndarray, columns: Sequence[str], best: Sequence[int], scale: tuple[float, float]
) -> None:
    """Numbers [row, column] on their colours, the best row of each column in bold."""
    axes.imshow(numbers, cmap=_MAP, vmin=scale[0], vmax=scale[1], aspect="auto")
    axes.set_xticks(range(len(columns)), columns, fontsize=9)
    axes.set_yticks([])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, colors=FAINT)
    for side in axes.spines.values():
        side.set_visible(False)
    for (row, column), number in np.ndenumerate(numbers):
        dark = (number - scale[0]) / max(scale[1] - scale[0], 1e-9) > 0.6
        axes.text(
            column,
            row,
            f"{number:.2f}",
            ha="center",
            va="center",
            fontsize=8.5,
            color="white" if dark else INK,
            fontweight="bold" if best[column] == row else "normal",
        )


def _kinds(axes: Any) -> None:
    """Names of the corruptions below their columns, and gaps between them."""
    place = 0
    for kind, severities in KINDS.items():
        middle = place + (len(severities) - 1) / 2
        axes.annotate(
            kind,
            xy=(middle, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -6),
            textcoords="offset points",
            ha="center",
            va="top",
            color=INK,
            fontsize=10,
        )
        place += len(severities)
        if place < len(SCENARIOS):
            axes.axvline(place - 0.5, color="white", linewidth=4)


def _title(axes: Any, title: str, below: str) -> None:
    axes.set_title(f"{title}\n", loc="left", color=INK, fontsize=11, fontweight="bold", pad=8)
    axes.annotate(
        below, xy=(0, 1), xycoords="axes fraction", xytext=(0, 20), textcoords="offset points", color=FAINT, fontsize=9
    )
