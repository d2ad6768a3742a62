"""The study's figures: for each environment its learning curves and trajectories, and one of all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.lab.study import Result, Results, Run
from benchmarks.studies.submodular.setting import Learning
from benchmarks.studies.submodular.tables import done, environments, large, references, short, values
from benchmarks.studies.submodular.tasks import LABELS, make_env
from maxent_rl.envs.submodular.field_map import FieldMap
from maxent_rl.pictures.style import FAINT, GRID, INK, colours, heading, save, style
from maxent_rl.pictures.trajectories import panel, scales
from maxent_rl.playing.trajectories import Trajectory

_COLOURS = dict(zip(LABELS, (colours(6)[1], colours(6)[0], *colours(6)[2:]), strict=True))
_LINES = {
    "random": ("random", ":"),
    "greedy": ("greedy", "--"),
    "deep": ("greedy, further ahead", "-."),
    "optimum": ("optimum", "-"),
    "bound": ("nobody can exceed", (0, (1, 3))),
}
"""References as they are drawn: name and line."""
_WIDTH, _CURVES, _SQUARE, _WIDE = 13.0, 4.6, 4.0, 7.2  # inches; the heights of curves, and of panels below them
_DRAWN = ("subpo", "modpo")
_KINDS = {"sampled": "sampled actions", "most_likely": "most likely actions"}


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Draws all figures: the overview, and one for each environment; and says what each shows."""
    if Learning.part not in results:
        return {}
    result = results[Learning.part]
    found = {"All environments, as shares of the best reference": folder / "overview.png"}
    overview(result, folder / "overview.png")
    for env in large(result):
        if any(done(result, env, name) for name in LABELS):
            path = folder / f"{short(env)}.png"
            environment(result, env, path)
            found[f"{short(env)}: learning curves and trajectories"] = path
    return found


def overview(result: Result, path: Path) -> None:
    """What everyone reaches in every environment, as a share of the optimum or, where it is not known, of the best plan."""
    envs = [env for env in environments(result) if scale(result, env) and done(result, env, "subpo")]
    figure = Figure(figsize=(11.0, 0.52 * len(envs) + 1.9), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for row, env in enumerate(envs):
        whole = scale(result, env)
        known = references(result, env)
        for place, name in enumerate(LABELS):
            found = [value / whole for value in values(result, env, name, "sampled")]
            height = row + 0.13 * (place - 2)
            if found:
                axes.plot(found, [height] * len(found), "o", color=_COLOURS[name], markersize=4, alpha=0.7)
        for name, mark in (("random", "|"), ("greedy", "x")):
            if name in known:
                axes.plot([known[name] / whole], [row], mark, color=FAINT, markersize=11 if mark == "|" else 7)
    axes.axvline(1.0, color=FAINT, linewidth=1)
    axes.set_yticks(range(len(envs)), [_measured_by(result, env) for env in envs], color=INK, fontsize=9)
    axes.set_ylim(len(envs) - 0.4, -0.6)
    style(axes)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("F of the trajectory with sampled actions, over what the line names", color=FAINT, fontsize=9)
    _legend(figure, result, [("random", FAINT, "|"), ("greedy, 1 step ahead", FAINT, "x")])
    save(figure, path, dpi=110)


def environment(result: Result, env: str, path: Path) -> None:
    """Learning curves with sampled and with most likely actions, and below them what the policies of the first seed do."""
    panels = [name for name in _DRAWN if kept(result, env, name)]
    heights = [_CURVES, *([_WIDE if _in_two_rows(result, env) else _SQUARE] if panels else [])]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    parts = np.atleast_1d(figure.subfigures(len(heights), 1, height_ratios=heights))
    above = parts[0].subplots(1, 2, sharey=True)
    for axes, column, title in ((above[0], 1, "Sampled actions"), (above[1], 2, "Most likely actions")):
        curves(axes, result, env, column)
        heading(axes, f"{short(env)}: {title.lower()}", "F of the trajectory: mean and range of the seeds")
    _name_lines(above[1], references(result, env))
    present = [name for name in LABELS if done(result, env, name)]
    handles = [_handle(_COLOURS[name], "o") for name in present]
    labels = [LABELS[name] for name in present]
    parts[0].legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    if panels:
        trajectories(parts[1], result, env, panels)
    save(figure, path, dpi=110)


def curves(axes: Any, result: Result, env: str, column: int) -> None:
    """F over environment steps: mean and range of the seeds, with the references as lines.

    Args:
      axes: to draw on.
      result: of the study.
      env: the environment.
      column: of the curves' rows.
    """
    for name in LABELS:
        runs = done(result, env, name)
        if not runs:
            continue
        steps = [row[0] / 1000 for row in runs[0]["curve"]]
        found = np.array([[row[column] for row in run["curve"]] for run in runs])
        axes.plot(steps, found.mean(axis=0), color=_COLOURS[name], linewidth=2)
        axes.fill_between(steps, found.min(axis=0), found.max(axis=0), color=_COLOURS[name], alpha=0.15, linewidth=0)
    known = references(result, env)
    for name, (_, line) in _LINES.items():
        if name in known:
            axes.axhline(known[name], color=FAINT, linewidth=1.1, linestyle=line)
    style(axes)
    axes.set_xlabel("environment steps of each seed, thousands", color=FAINT, fontsize=9)


def spaced(heights: Sequence[float], least: float) -> list[float]:
    """Heights for labels that do not overlap: in the same order, at least so far apart, near where they belong."""
    order = np.argsort(heights, kind="stable")
    placed = np.array(heights, float)[order]
    for _ in range(200):
        gaps = np.diff(placed)
        close = np.flatnonzero(gaps < least - 1e-9)
        if not close.size:
            break
        for index in close:
            shift = (least - (placed[index + 1] - placed[index])) / 2
            if shift > 0:
                placed[index] -= shift
                placed[index + 1] += shift
    found = np.empty(len(placed))
    found[order] = placed
    return [float(height) for height in found]


def scale(result: Result, env: str) -> float | None:
    """What shares are of: the optimum, else the best plan, else the best that was learned."""
    known = references(result, env)
    if "optimum" in known:
        return known["optimum"]
    plans = [known[name] for name in ("greedy_best", "deep_best", "greedy", "deep") if name in known]
    learned = [value for name in LABELS for value in values(result, env, name, "sampled")]
    found = max(plans or learned, default=0.0)
    return found if found > 0 else None


def kept(result: Result, env: str, name: str) -> dict[str, Any]:
    """What the figures draw of a contender."""
    runs: list[Run] = [run for run in done(result, env, name) if run.get("kept")]
    found: dict[str, Any] = runs[0]["kept"] if runs else {}
    return found


def trajectories(figure: Any, result: Result, env: str, names: Sequence[str]) -> None:
    """What the policies of the first seed do: their episodes over the field, or their probabilities by step.

    Args:
      figure: the part of a figure to draw in.
      result: of the study.
      env: the environment.
      names: of contenders whose episodes were kept.
    """
    if all("probabilities" in kept(result, env, name) for name in names):
        for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
            _probabilities(axes, np.array(kept(result, env, name)["probabilities"]))
            heading(axes, LABELS[name], "first seed: probability of each choice at each step")
        return
    field = field_of(make_env(env))
    pairs = [(name, kind) for name in names for kind in _KINDS]
    panels = figure.subplots(*((len(names), len(_KINDS)) if wide(field) else (1, len(pairs))), squeeze=False).ravel()
    played = [[walked(text) for text in kept(result, env, name)[kind]] for name, kind in pairs]
    steps = max(each.length for together in played for each in together)
    for axes, (name, kind), together in zip(panels, pairs, played, strict=True):
        drawn = panel(axes, field, together, steps=steps)
        axes.set_title(f"{LABELS[name]}\nfirst seed, {_KINDS[kind]}", loc="left", fontsize=9.5, color=INK)
    scales(figure, list(panels), field, drawn)


def field_of(env: Any) -> FieldMap:
    """The plane of an environment for trajectories that were kept as positions in it."""
    field: FieldMap = env.field_map
    return dataclasses.replace(field, places=np.asarray, reached=env.plane.reached)


def wide(field: FieldMap) -> bool:
    """Whether panels of a plane stand in two rows."""
    rows, columns = field.value.shape
    return bool(columns >= 2 * rows)


def _in_two_rows(result: Result, env: str) -> bool:
    drawn = any("sampled" in kept(result, env, name) for name in _DRAWN)
    return drawn and wide(field_of(make_env(env)))


def walked(text: str) -> Trajectory:
    """A trajectory of which the positions were kept."""
    path = np.array([[float(value) for value in point.split()] for point in text.split(", ")])
    return Trajectory(path, np.zeros(len(path) - 1, np.float32), np.zeros(len(path) - 1, np.float32))


def _probabilities(axes: Any, matrix: Any) -> None:
    axes.imshow(matrix, cmap="Blues", vmin=0.0, vmax=1.3, aspect="auto")
    for (step, choice), share in np.ndenumerate(matrix):
        axes.text(choice, step, f"{share:.2f}", ha="center", va="center", fontsize=9, color=INK)
    axes.set_xticks(range(matrix.shape[1]), [f"element {choice}" for choice in range(matrix.shape[1])], fontsize=8)
    axes.set_yticks(range(matrix.shape[0]), [f"step {step}" for step in range(matrix.shape[0])], fontsize=8)
    axes.tick_params(length=0, colors=FAINT)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _name_lines(axes: Any, known: Mapping[str, float]) -> None:
    """Writes beside the axes what the references' lines are."""
    names = [name for name in _LINES if name in known]
    low, high = axes.get_ylim()
    heights = spaced([known[name] for name in names], 0.055 * (high - low))
    for name, height in zip(names, heights, strict=True):
        axes.annotate(
            f"{_LINES[name][0]} {known[name]:.4g}",
            xy=(1.0, known[name]),
            xycoords=("axes fraction", "data"),
            xytext=(1.03, height),
            textcoords=("axes fraction", "data"),
            color=FAINT,
            fontsize=9,
            va="center",
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0},
            annotation_clip=False,
        )


def _measured_by(result: Result, env: str) -> str:
    known, whole = references(result, env), scale(result, env)
    what = "the best policy learned"
    if "optimum" in known:
        what = "the optimum"
    elif "greedy" in known:
        what = "the best greedy plan"
    return f"{short(env)}\n{what}, {whole:.4g}"


def _legend(figure: Any, result: Result, more: Sequence[tuple[str, str, str]]) -> None:
    present = [name for name in LABELS if any(done(result, env, name) for env in environments(result))]
    handles = [_handle(_COLOURS[name], "o") for name in present] + [_handle(colour, mark) for _, colour, mark in more]
    labels = [LABELS[name] for name in present] + [title for title, _, _ in more]
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def _handle(colour: str, mark: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, marker=mark, linestyle="none", markersize=7)
