"""The study's figure, and the curves that it draws as a table: evaluation returns by environment step."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.lab.study import Result, Results, runs_of
from benchmarks.studies.playground.setting import LABELS, PARTS
from maxent_rl.pictures.style import FAINT, INK, colours, save, style

_WIDTH, _HEIGHT = 7.0, 4.4


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Writes the curves of every seed as PART.csv, draws them, and says what the figures show."""
    found = {}
    for part, result in results.items():
        write_curves(result, folder / f"{part}.csv")
        path = folder / f"{part}.png"
        draw(result, path)
        found[f"Evaluation returns of PPO and REPPO by environment step: {PARTS[part]}"] = path
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


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draws a panel for each environment: every seed thin, their mean thick.

    Args:
      result: of a part.
      path: PNG to write.
    """
    envs = list(dict.fromkeys(run["env"] for run in result["runs"] if "error" not in run))
    figure = Figure(figsize=(_WIDTH * max(len(envs), 1), _HEIGHT), layout="constrained", facecolor="white")
    palette = dict(zip(LABELS, colours(len(LABELS)), strict=True))
    for axes, env in zip(figure.subplots(1, max(len(envs), 1), squeeze=False)[0], envs, strict=True):
        for name, label in LABELS.items():
            curves = [np.array(run["curve"]) for run in runs_of(result["runs"], env, name) if "curve" in run]
            if not curves:
                continue
            steps, returns = curves[0][:, 0] / 1000, np.array([curve[:, 1] for curve in curves])
            axes.plot(steps, returns.T, color=palette[name], linewidth=0.8, alpha=0.5)
            axes.plot(steps, returns.mean(axis=0), color=palette[name], linewidth=2.2, label=label)
        style(axes)
        axes.set_title(env, loc="left", color=INK, fontsize=11, fontweight="bold")
        axes.set_xlabel("environment steps, thousands", color=FAINT, fontsize=9)
        axes.set_ylabel("evaluation return", color=FAINT, fontsize=9)
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    save(figure, path, dpi=110)
