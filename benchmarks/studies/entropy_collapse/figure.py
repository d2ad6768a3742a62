"""The figures of the study of entropy collapse: after the warm start, means over seeds with a band of a standard error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.lab.publish import figure_of_each_part
from benchmarks.lab.study import Result, Results, Run
from benchmarks.studies.entropy_collapse.measure import course
from benchmarks.studies.entropy_collapse.setting import Objectives, Targets, label, ordered, target
from maxent_rl.pictures.style import FAINT, GRID, INK, colours, save, style

_BASE = "grpo"
_GREY = "#9ca3af"
# Twelve lines in one panel cannot be told apart: those of one idea stand together, against the same grey one.
_FAMILIES = {
    "bonus and bounds": ("clip_higher", "entropy_bonus", "lp_reg"),
    "covariance": ("clip_cov", "kl_cov"),
    "entropy change of a token": ("clip_b", "clip_v", "steer"),
    "held at a target": ("dcpo", "aepo_arbitrary", "entropy_target"),
}
_PANELS = {
    "training reward": ("trained", "reward"),
    "pass@1, held out": ("evaluated", "pass@1"),
    "pass@8, held out": ("evaluated", "pass@8"),
    "entropy, nats per token": ("trained", "entropy"),
}
_STEPS = "responses after the warm start, thousands"


_PICTURES = {
    Objectives.part: "Reward, pass@1, pass@8 and entropy under each objective",
    Targets.part: "Entropy under each target",
}


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Draws a figure for each part, and says what it shows."""
    return figure_of_each_part(results, folder, _PICTURES, draw)


def draw(part: str, result: Result, path: Path) -> None:
    """Draws the figure of a part of the study.

    Args:
      part: its name.
      result: of the part.
      path: PNG to write.
    """
    runs = [run for run in result["runs"] if "error" not in run]
    drawing = _targets if part == Targets.part else _objectives
    by_contender = {name: [run for run in runs if run["contender"] == name] for name in ordered(runs)}
    save(drawing(by_contender), path, dpi=110)


def _objectives(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """A row for each measure, a column for each family of objectives."""
    families = {title: [name for name in names if name in runs] for title, names in _FAMILIES.items()}
    families = {title: names for title, names in families.items() if names} or {"": []}
    figure = _figure(3.7 * len(families), 2.5 * len(_PANELS) + 0.8)
    grid = figure.subplots(len(_PANELS), len(families), sharex=True, sharey="row", squeeze=False)
    for column, (title, names) in zip(grid.T, families.items(), strict=True):
        palette = dict(zip(names, colours(len(names)), strict=True))
        for axes, (kind, metric) in zip(column, _PANELS.values(), strict=True):
            for name in [each for each in (_BASE, *names) if each in runs]:
                _line(axes, runs[name], kind, metric, palette.get(name, _GREY))
            style(axes)
            if metric == "entropy":
                axes.set_ylim(bottom=0)  # how near it comes to nothing is the question
        shown = {name: palette.get(name, _GREY) for name in (_BASE, *names) if name in runs}
        _key(column[0], title, {label(name): color for name, color in shown.items()})
        column[-1].set_xlabel(_STEPS, color=FAINT, fontsize=9)
    for axes, title in zip(grid[:, 0], _PANELS, strict=True):
        axes.set_ylabel(title, color=INK, fontsize=10)
    return figure


def _targets(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """A panel for each contender that holds targets: entropy, and the targets as dashed lines."""
    wanted = sorted({held for name in runs if (held := target(name)) is not None})
    palette = dict(zip(wanted, colours(len(wanted)), strict=True))
    holding = list(dict.fromkeys(name.split("@")[0] for name in runs if target(name) is not None)) or [_BASE]
    figure = _figure(5.4 * len(holding), 4.0)
    for axes, contender in zip(figure.subplots(1, len(holding), sharey=True, squeeze=False)[0], holding, strict=True):
        for held, color in palette.items():
            axes.axhline(held, color=color, linestyle=(0, (4, 3)), linewidth=1.0, zorder=1)
        if _BASE in runs:
            _line(axes, runs[_BASE], "trained", "entropy", _GREY)
        for name in [each for each in runs if each.split("@")[0] == contender and target(each) is not None]:
            _line(axes, runs[name], "trained", "entropy", palette[target(name)])  # type: ignore[index]
        style(axes)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(_STEPS, color=FAINT, fontsize=9)
        shown = {label(_BASE): _GREY} if _BASE in runs else {}
        _key(axes, label(contender), shown | {f"{held} nats": color for held, color in palette.items()})
    figure.axes[0].set_ylabel("entropy, nats per token", color=INK, fontsize=10)
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # type: ignore[union-attr,call-arg]
    return figure


def _line(axes: Any, runs: Sequence[Run], kind: str, metric: str, color: str) -> None:
    """The mean over seeds of a course, and a band of one standard error."""
    found = [course(run[kind]) for run in runs]
    length = min(len(each["step"]) for each in found)
    if not length:
        return
    steps = np.array(found[0]["step"][:length]) / 1000
    values = np.array([each[metric][:length] for each in found])
    mean = values.mean(axis=0)
    above = {} if color != _GREY else {"zorder": 1.5}  # the one compared with lies behind
    axes.plot(steps, mean, color=color, linewidth=1.5, **above)
    if len(found) > 1:
        error = values.std(axis=0, ddof=1) / np.sqrt(len(found))
        axes.fill_between(steps, mean - error, mean + error, color=color, alpha=0.15, linewidth=0, **above)


def _key(axes: Any, title: str, shown: Mapping[str, str]) -> None:
    """A title, and below it the names in the colours of their lines."""
    axes.set_title(title, loc="left", pad=22, color=INK, fontsize=11, fontweight="bold")
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=color, linewidth=3) for color in shown.values()]
    axes.legend(
        handles,
        list(shown),
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=len(shown),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handlelength=0.9,
        handletextpad=0.4,
        columnspacing=0.9,
        borderpad=0.1,
    )
    axes.spines["bottom"].set_color(GRID)
