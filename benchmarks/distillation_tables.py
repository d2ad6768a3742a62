"""Tables and figure of the distillation study, and their place in benchmarks/README.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import BenchmarkError, show_number
from matplotlib.figure import Figure
from multimodal_study import Result, Run, mean_and_error, runs_of
from multimodal_tables import Cell, mean_of, note, rows_of
from render import insert

from maxent_rl.pictures.style import FAINT, GRID, INK, save, style

MARKERS = "<!-- distillation:begin -->", "<!-- distillation:end -->"
PAPER = {
    "HalfCheetah": {"kd": (-309.0, 0.857, 30.50), "self": (279.3, 0.765, 10.45), "ema": (166.8, 0.858, 0.62)},
    "Hopper": {"kd": (36.9, 0.799, 16.98), "self": (177.3, 0.684, 7.61), "ema": (855.6, 0.755, 3.97)},
}
"""(return, NDCG, KL) of the paper's methods; its teachers had 8476.5 and 1169.8."""

_ANCHORS = {"fixed": "self-anchor", "ema": "EMA anchor", "copy": "anchor copied", "kl": "anchor by KL"}
_PAPER_NAMES = {"kd": "kd", "fixed-plain": "self", "ema-plain": "ema"}
_FAMILIES = {"kd": "#0072B2", "kd-T4": "#56B4E9", "bc": "#7F7F7F", "plain": "#E69F00", "over": "#009E73"}
_LINES = {"fixed": "-", "ema": "--", "copy": "-.", "kl": ":"}
_LARGEST = 100.0  # nats; what has left that far behind is lost, and how far says nothing
_NAMES = {"kd": "KD, T = 1", "kd-T4": "KD, T = 4", "bc": "behaviour cloning"}


def label(contender: str) -> str:
    """A method as people read it."""
    anchor, _, target = contender.partition("-")
    if contender in _NAMES or anchor not in _ANCHORS:
        return _NAMES.get(contender, contender)
    return f"ADPO, {_ANCHORS[anchor]}, {'teacher' if target == 'plain' else 'teacher over anchor'}"


def table(result: Result, order: Sequence[str]) -> str:
    """A table for each environment, with the paper's figures where it has the method."""
    parts, failed = [], []
    labels = {contender: label(contender) for contender in order}
    for env in dict.fromkeys(run["env"] for run in result["runs"]):
        runs = [run for run in result["runs"] if run["env"] == env and "error" not in run]
        teacher = show_number(runs[0]["values"]["teacher_return"]) if runs else "?"
        columns = dict(_COLUMNS) | {"paper: return, NDCG, KL": _paper(env)}
        rows, without = rows_of(result, env, columns, labels, f"{env} (teacher {teacher})")
        parts.append(rows)
        failed += [f"{name} on {env}" for name in without]
    return "\n\n".join([*parts, note(result, failed).replace("steps each", "updates each")])


def render(results: Path, readme: Path, figure: Path, order: Sequence[str]) -> None:
    """Writes table and figure of what has been measured.

    Args:
      results: folder with the results.
      readme: file with the markers.
      figure: PNG to write.
      order: of all contenders.

    Raises:
      BenchmarkError: nothing has been measured, or the markers are missing.
    """
    path = results / "distillation.json"
    if not path.exists():
        raise BenchmarkError(f"There is no {path}: run the study first.")
    result = json.loads(path.read_text())
    text = table(result, order)
    print(text)
    draw(result, figure, order)
    print(f"Written: {figure}", file=sys.stderr)
    if not insert(readme, text, MARKERS):
        raise BenchmarkError(f"{readme} has no lines {MARKERS[0]} and {MARKERS[1]} to write the table between.")
    print(f"Written: {readme}", file=sys.stderr)


def draw(result: Result, path: Path, order: Sequence[str]) -> None:
    """Draws for each environment the returns, the divergences at the end, and how these fell.

    Args:
      result: of the study.
      path: PNG to write.
      order: of all contenders.
    """
    envs = list(dict.fromkeys(run["env"] for run in result["runs"] if "error" not in run))
    figure = Figure(figsize=(15.0, 4.6 * max(len(envs), 1)), layout="constrained", facecolor="white")
    for row, env in zip(figure.subplots(max(len(envs), 1), 3, squeeze=False), envs, strict=True):
        runs = {name: [run for run in runs_of(result["runs"], env, name) if "error" not in run] for name in order}
        runs = {name: found for name, found in runs.items() if found}
        teacher = next(iter(runs.values()))[0]["values"]["teacher_return"]
        _bars(row[0], runs, "return", f"{env}: return")
        row[0].axvline(teacher, color=INK, linestyle=(0, (4, 3)), linewidth=1.0)
        row[0].annotate(
            "teacher", (teacher, -0.8), ha="right", va="center", color=FAINT, fontsize=9, annotation_clip=False
        )
        _bars(row[1], runs, "kl", f"KL(teacher || student), nats, cut at {_LARGEST:.0f}")
        row[1].set_xscale("log")
        row[1].set_xlim(0.1, _LARGEST)
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
    axes.set_ylim(0.1, _LARGEST)
    style(axes)
    lines = "— self-anchor   - - EMA   -·- copied   ··· by KL"
    axes.set_xlabel(f"updates, thousands\n{lines}", color=FAINT, fontsize=9)
    axes.set_title("KL over training, colours as on the left", loc="left", color=INK, fontsize=11, fontweight="bold")


def _colour(contender: str) -> str:
    return _FAMILIES.get(contender) or _FAMILIES[contender.partition("-")[2]]


def _divergence(metric: str) -> Cell:
    """As `mean_of`, but that students without any likeness to the teacher are said to be such."""

    def cell(runs: Sequence[Run]) -> str:
        found = [run["values"][metric] for run in runs if metric in run["values"]]
        return f"over {_LARGEST:,.0f}" if found and np.mean(found) > _LARGEST else mean_of(metric)(runs)

    return cell


def _paper(env: str) -> Cell:
    def cell(runs: Sequence[Run]) -> str:
        name = _PAPER_NAMES.get(runs[0]["contender"])
        if name is None or env not in PAPER:
            return ""
        found = PAPER[env][name]
        return f"{found[0]:,.1f}, {found[1]}, {found[2]:.2f}"

    return cell


def _share(runs: Sequence[Run]) -> str:
    shares = [run["values"]["return"] / run["values"]["teacher_return"] for run in runs]
    return f"{np.mean(shares):.0%}"


_COLUMNS: dict[str, Cell] = {
    "return": mean_of("return"),
    "of the teacher's": _share,
    "NDCG": mean_of("ndcg"),
    "KL from the teacher": _divergence("kl"),
    "entropy": mean_of("entropy"),
    "KL from the derived fixed point": mean_of("kl_fixed_point"),
    "the fixed point's own KL from the teacher": mean_of("kl_of_fixed_point"),
}
