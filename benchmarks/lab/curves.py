"""Runs of registered agents by their evaluations: what each seed gave, every point as a table, and curves as a picture."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.lab.runs import Row
from benchmarks.lab.study import Result, Seed, runs_of
from maxent_rl.pictures.style import FAINT, INK, colours, save, style

_LAST = 3  # evaluations whose mean is the return of a run: none is chosen
_WIDTH, _HEIGHT, _COLUMNS = 7.0, 4.4, 3


class Published(NamedTuple):
    """Points that somebody else has published, drawn beside ours.

    Attributes:
      label: whose they are, and with which settings.
      points: (steps, mean, standard deviation over seeds).
    """

    label: str
    points: tuple[tuple[int, float, float], ...]


def read_seeds(metrics: Sequence[Row], evaluations: Sequence[Row]) -> list[Seed]:
    """What each seed's run gave.

    Args:
      metrics: rows of metrics.csv.
      evaluations: rows of eval.csv.

    Returns:
      For each seed its return (mean of the last three evaluations), the mean over all evaluations, the return halfway, the
      median speed while learning in steps of each seed, and the curve [(step, return)].
    """
    found = []
    for seed in sorted({int(row["seed"]) for row in evaluations}):
        curve = [(int(row["step"]), round(row["return_mean"], 2)) for row in evaluations if row["seed"] == seed]
        returns = [value for _, value in curve]
        middle = min(curve, key=lambda point: abs(point[0] - curve[-1][0] / 2))
        values = {
            "return": statistics.fmean(returns[-_LAST:]),
            "halfway": middle[1],
            "mean": statistics.fmean(returns),
        }
        learned = [row for row in metrics if row["seed"] == seed and row.get("updates", 0) > 0]
        # The first line after the start holds the compiling.
        speeds = [row["steps_per_second"] for row in learned[1:] or learned]
        values |= {"steps_per_second": statistics.median(speeds)} if speeds else {}
        found.append(Seed(seed, values, {"curve": curve}))
    return found


def write_curves(result: Result, path: Path) -> None:
    """Writes one row for each evaluation of each seed.

    Args:
      result: of a part.
      path: CSV to write: env, contender, seed, step, return.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["env", "contender", "seed", "step", "return"])
        for run in result["runs"]:
            writer.writerows([run["env"], run["contender"], run["repeat"], *point] for point in run.get("curve", []))


def draw(
    result: Result, labels: Mapping[str, str], path: Path, published: Mapping[str, Sequence[Published]] | None = None
) -> None:
    """Draws a panel for each environment: every seed thin, their mean thick, and what others have published as points.

    Args:
      result: of a part.
      labels: what each contender is called, in the order of the legend.
      path: PNG to write.
      published: by environment.
    """
    envs = list(dict.fromkeys(run["env"] for run in result["runs"] if "error" not in run)) or [""]
    columns = min(len(envs), _COLUMNS)
    rows = math.ceil(len(envs) / columns)
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows), layout="constrained", facecolor="white")
    palette = dict(zip(labels, colours(len(labels)), strict=True))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, env in zip(panels, envs, strict=False):
        for name, label in labels.items():
            curves = [np.array(run["curve"]) for run in runs_of(result["runs"], env, name) if "curve" in run]
            if curves:
                steps, returns = curves[0][:, 0] / 1000, np.array([curve[:, 1] for curve in curves])
                axes.plot(steps, returns.T, color=palette[name], linewidth=0.8, alpha=0.5)
                axes.plot(steps, returns.mean(axis=0), color=palette[name], linewidth=2.2, label=label)
        _draw_published(axes, (published or {}).get(env, ()))
        style(axes)
        axes.set_title(env, loc="left", color=INK, fontsize=11, fontweight="bold")
        axes.set_xlabel("environment steps, thousands", color=FAINT, fontsize=9)
        axes.set_ylabel("evaluation return", color=FAINT, fontsize=9)
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    for axes in panels[len(envs) :]:
        axes.set_axis_off()
    save(figure, path, dpi=110)


def _draw_published(axes: Axes, published: Sequence[Published]) -> None:
    last = axes.dataLim.x1
    for each, marker in zip(published, "os^D", strict=False):
        points = np.array([point for point in each.points if point[0] / 1000 <= last])
        if len(points):
            axes.errorbar(
                points[:, 0] / 1000, points[:, 1], yerr=points[:, 2], color=FAINT, marker=marker, linestyle="none",
                capsize=3, markersize=5, label=each.label,
            )  # fmt: skip
