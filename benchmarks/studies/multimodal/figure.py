"""The figure of the multimodal studies: optima covered by seed, samples over the landscapes, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.lab.study import Result, Results, Run, runs_of
from benchmarks.studies.multimodal.setting import CONTENDERS, Bandits, Mujoco, Multigoal, label
from maxent_rl.envs import make_device
from maxent_rl.pictures.expertise import Expertise
from maxent_rl.pictures.landscapes import panel
from maxent_rl.pictures.style import FAINT, GRID, INK, colours, save, style
from maxent_rl.playing.trajectories import Trajectory

_WIDTH, _TOY_HEIGHT, _CURVE_HEIGHT, _HEATMAP_WIDTH = 15.0, 4.2, 3.6, 4.6
_COLUMNS = 4
_NOISE = 0.5  # with a smaller share of all samples at any optimum, coverage is shown as that of noise
_SAC = INK


SHOWN = ("sac", "frequency", "exact-mixture")
"""Contenders whose samples are drawn; three are easy to look at."""
CURVES = Mujoco.contenders[:7]
"""Contenders whose learning curves are drawn."""


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Draws the figure, and says what it shows."""
    path = folder / "multimodal.png"
    draw(results, path, SHOWN, CURVES, tuple(CONTENDERS))
    return {"Optima and goals by contender and seed, what three policies do, and returns on MuJoCo": path}


def draw(
    results: Mapping[str, Result], path: Path, show: Sequence[str], curves: Sequence[str], order: Sequence[str]
) -> None:
    """Draws a row for each environment with several right answers, and the learning curves below.

    Args:
      results: by part.
      path: PNG to write.
      show: contenders whose samples are drawn.
      curves: contenders whose learning curves are drawn.
      order: of all contenders.
    """
    toys = [
        (results[name]["runs"], env)
        for name in (Bandits.part, Multigoal.part)
        if name in results
        for env in _envs(results[name])
    ]
    mujoco = results.get(Mujoco.part)
    envs = _envs(mujoco) if mujoco else []
    rows = -(-len(envs) // _COLUMNS)
    heights = [_TOY_HEIGHT] * len(toys) + [_CURVE_HEIGHT * rows + 0.5] * bool(envs)
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    parts = np.atleast_1d(figure.subfigures(len(heights), 1, height_ratios=heights))
    for part, (runs, env) in zip(parts, toys, strict=False):
        _toy(part, runs, env, show, order)
    if mujoco and envs:
        _curves(parts[-1], mujoco["runs"], envs, [name for name in order if name in curves])
    save(figure, path, dpi=110)


def _envs(result: Result) -> list[str]:
    return list(dict.fromkeys(run["env"] for run in result["runs"] if "error" not in run))


def _toy(figure: Any, runs: Sequence[Run], env: str, show: Sequence[str], order: Sequence[str]) -> None:
    drawn = [name for name in show if any("kept" in run for run in runs_of(runs, env, name))]
    width = (_WIDTH - _HEATMAP_WIDTH) / max(len(show), 1)
    columns = figure.subfigures(1, 1 + len(show), width_ratios=(_HEATMAP_WIDTH, *[width] * len(show)))
    columns = np.atleast_1d(columns)
    present = [name for name in order if any("error" not in run for run in runs_of(runs, env, name))]
    _heatmap(columns[0].subplots(), {name: runs_of(runs, env, name) for name in present}, env)
    for column, name in zip(columns[1:], drawn, strict=False):
        run = next(run for run in runs_of(runs, env, name) if "kept" in run)
        trajectories, expertise = kept(run)
        reward_map: Any = make_device(env).reward_map  # type: ignore[attr-defined]
        axes, _ = panel(column, reward_map, trajectories, expertise, scale=False)
        count, total = int(run["values"]["covered"]), len(run["shares"])
        found = f"{count} of {total}" if run["values"]["somewhere"] >= _NOISE else f"({count} of {total})"
        axes.set_title(f"{label(name)}\nseed {run['repeat']}: {found}", loc="left", color=INK, fontsize=10)


def _heatmap(axes: Any, by_contender: Mapping[str, Sequence[Run]], env: str) -> None:
    """Optima covered, contenders by seeds."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    first = next(iter(by_contender.values()))[0]
    total = len(first["shares"])
    seeds = max(len(runs) for runs in by_contender.values())
    grid, noise = np.full((len(by_contender), seeds), np.nan), np.zeros((len(by_contender), seeds), bool)
    for row, runs in enumerate(by_contender.values()):
        grid[row, : len(runs)] = [run["values"]["covered"] for run in runs]
        # Coverage by what scatters everywhere is no choice of several good answers.
        noise[row, : len(runs)] = [run["values"]["somewhere"] < _NOISE for run in runs]
    shades = ListedColormap([colormaps["Blues"](0.05 + 0.75 * count / total) for count in range(total + 1)])
    axes.imshow(np.where(noise, np.nan, grid), cmap=shades, vmin=-0.5, vmax=total + 0.5, aspect="auto")
    for (row, column), count in np.ndenumerate(grid):
        if np.isfinite(count):
            blurred = noise[row, column]
            color = FAINT if blurred else "white" if count > 0.6 * total else INK
            axes.text(
                column,
                row,
                f"({count:.0f})" if blurred else f"{count:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color=color,
            )
    axes.set_yticks(range(len(by_contender)), [label(name) for name in by_contender], fontsize=8, color=INK)
    axes.set_xticks(range(seeds), [str(run["repeat"]) for run in max(by_contender.values(), key=len)], fontsize=8)
    axes.set_xticks(np.arange(-0.5, seeds), minor=True)
    axes.set_yticks(np.arange(-0.5, len(by_contender)), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.tick_params(axis="x", colors=FAINT)
    for spine in axes.spines.values():
        spine.set_visible(False)
    what = "goals reached" if env == "maxent/MultiGoal" else "optima covered"
    axes.set_xlabel(f"seed  ·  {what}, of {total}", color=FAINT, fontsize=9)
    axes.set_facecolor(GRID)
    axes.set_title(env, loc="left", color=INK, fontsize=11, fontweight="bold")


def kept(run: Run) -> tuple[list[Trajectory], Expertise | None]:
    """The episodes that a run kept, and by whom their actions are, as the landscapes take them."""
    trajectories, chosen = [], []
    for episode in run["kept"]:
        observation, action = _points(episode["observation"]), _points(episode["action"])
        trajectories.append(Trajectory(observation, action, np.zeros(len(action), np.float32)))
        chosen += [int(expert) for expert in episode.get("expert", "").split()]
    if not chosen:
        return trajectories, None
    count, draws = len(run["usage"]), run["contender"].split("-")[0] != "attention"
    nothing = np.zeros((0, count), np.float32)
    weights = np.broadcast_to(np.float32(run["usage"]), (len(chosen), count))
    return trajectories, Expertise(
        observation=nothing,
        chosen=np.int32(chosen),
        weights=weights,
        router_entropy=nothing[:, 0],
        expert_entropy=nothing,
        actions=nothing[..., None],
        draws=draws,
    )


def _points(text: str) -> Any:
    return np.array([[float(value) for value in point.split()] for point in text.split(", ")], np.float32)


def _curves(figure: Any, runs: Sequence[Run], envs: Sequence[str], contenders: Sequence[str]) -> None:
    """Evaluation returns by environment step: means over the seeds, with bands of a standard error."""
    rows = -(-len(envs) // _COLUMNS)
    panels = figure.subplots(rows, min(_COLUMNS, len(envs)), squeeze=False)
    palette = dict(zip([name for name in contenders if name != "sac"], colours(len(contenders)), strict=False))
    handles = {}
    for axes, env in zip(panels.flat, envs, strict=False):
        for name in contenders:
            found = [run["curve"] for run in runs_of(runs, env, name) if "curve" in run]
            if not found:
                continue
            length = min(map(len, found))
            steps = np.array([step for step, _ in found[0][:length]]) / 1000
            returns = np.array([[value for _, value in curve[:length]] for curve in found])
            mean = returns.mean(axis=0)
            color = palette.get(name, _SAC)
            (handles[name],) = axes.plot(steps, mean, color=color, linewidth=2.2 if name == "sac" else 1.5)
            if len(found) > 1:
                error = returns.std(axis=0, ddof=1) / np.sqrt(len(found))
                axes.fill_between(steps, mean - error, mean + error, color=color, alpha=0.15, linewidth=0)
        style(axes)
        axes.set_title(env, loc="left", color=INK, fontsize=11, fontweight="bold")
        axes.set_xlabel("environment steps, thousands", color=FAINT, fontsize=9)
    for axes in panels.flat[len(envs) :]:
        axes.set_visible(False)
    panels[0, 0].set_ylabel("evaluation return", color=FAINT, fontsize=9)
    figure.legend(
        handles.values(),
        [label(name) for name in handles],
        loc="outside lower center",
        ncols=len(handles) or 1,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
