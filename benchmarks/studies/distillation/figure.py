"""The study's figure: returns and divergences of the students, and how the latter fell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.lab.statistics import mean_and_error
from benchmarks.lab.study import Result, Results, Run, runs_of
from benchmarks.studies.distillation.setting import CONTENDERS, label
from benchmarks.studies.distillation.tables import LARGEST
from maxent_rl.pictures.style import FAINT, GRID, INK, save, style

_FAMILIES = {"kd": "#0072B2", "kd-T4": "#56B4E9", "bc": "#7F7F7F", "plain": "#E69F00", "over": "#009E73"}
_LINES = {"fixed": "-", "ema": "--", "copy": "-.", "kl": ":"}


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Draws the figure, and says what it shows."""
    path = folder / "distillation.png"
    draw(results["distillation"], path)
    return {"Return and divergence of students": path}


def draw(result: Result, path: Path) -> None:
    """Draws for each environment the returns, the divergences at the end, and how these fell.

    Args:
      result: of the study.
      path: PNG to write.
    """
    envs = list(dict.fromkeys(run["env"] for run in result["runs"] if "error" not in run))
    figure = Figure(figsize=(15.0, 4.6 * max(len(envs), 1)), layout="constrained", facecolor="white")
    for row, env in zip(figure.subplots(max(len(envs), 1), 3, squeeze=False), envs, strict=True):
        runs = {name: [run for run in runs_of(result["runs"], env, name) if "error" not in run] for name in CONTENDERS}
        runs = {name: found for name, found in runs.items() if found}
        teacher = next(iter(runs.values()))[0]["values"]["teacher_return"]
        _bars(row[0], runs, "return", f"{env}: return")
        row[0].axvline(teacher, color=INK, linestyle=(0, (4, 3)), linewidth=1.0)
        row[0].annotate(
            "teacher", (teacher, -0.8), ha="right", va="center", color=FAINT, fontsize=9, annotation_clip=False
        )
        _bars(row[1], runs, "kl", f"KL(teacher || student), nats, cut at {LARGEST:.0f}")
        row[1].set_xscale("log")
        row[1].set_xlim(0.1, LARGEST)
        row[1].set_yticklabels([])
        _curves(row[2], runs)
    save(figure, path, dpi=110)


def _bars(axes: Any, runs: Mapping[str, Sequence[Run]], metric: str, title: str) -> None:
    found = [mean_and_error([run["values"][metric] for run in each]) for each in runs.values()]
    places = np.arange(len(found))
    means, errors = np.array(found).T
    axes.barh(places, means, xerr=np.nan_to_num(errors), color=[_colour(name) for name in runs], height=0.7, ecolor=INK)
    axes.set_yticks(places, [label(name) for name in runs])
    axes.invert_yaxis()
    style(axes)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")


def _curves(axes: Any, runs: Mapping[str, Sequence[Run]]) -> None:
    for name, each in runs.items():
        curves = np.array([run["curve"] for run in each])
        line = _LINES.get(name.partition("-")[0], "-")
        axes.plot(
            curves[0, :, 0] / 1000, curves[:, :, 1].mean(axis=0), color=_colour(name), linestyle=line, linewidth=1.5
        )
    axes.set_yscale("log")
    axes.set_ylim(0.1, LARGEST)
    style(axes)
    lines = "— self-anchor   - - EMA   -·- copied   ··· by KL"
    axes.set_xlabel(f"updates, thousands\n{lines}", color=FAINT, fontsize=9)
    axes.set_title("KL over training, colours as on the left", loc="left", color=INK, fontsize=11, fontweight="bold")


def _colour(contender: str) -> str:
    return _FAMILIES.get(contender) or _FAMILIES[contender.partition("-")[2]]
