"""Trajectories drawn over the plane in which they lie: what is there, what they reached, and when they were where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.env import Env
from maxent_rl.envs.submodular.field_map import FieldMap, HasFieldMap
from maxent_rl.envs.submodular.plane import Seen, SubmodularPlane
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.pictures.style import FAINT, INK, colours, save
from maxent_rl.playing.choosing import most_likely, sampled_action
from maxent_rl.playing.opening import open_environment
from maxent_rl.playing.trajectories import Trajectory, collect_trajectories
from maxent_rl.runs.policy import Policy

Array = NDArray[Any]

MOST_PANELS = 8
MOST_PATHS = 10  # of a panel: beyond, nobody can follow any of them

_WALL, _REACHED = "#4b5563", "#56B4E9"
_FEW, _FEW_WIDE = 4, 2  # panels beside each other
_LONGER_SIDE = {1: 5.4, 2: 4.2, 4: 3.6, MOST_PANELS: 3.2}  # of a panel in inches, by how many there are at most


class Panel(NamedTuple):
    """What is drawn in a panel.

    Attributes:
      title: above it.
      trajectories: at least one.
    """

    title: str
    trajectories: Sequence[Trajectory]


class Drawn(NamedTuple):
    """What a panel's scales are made of.

    Attributes:
      field: whose colours tell the values of the plane.
      paths: whose colours tell the step.
    """

    field: Any
    paths: Any


def picture_policies(
    policies: Sequence[Policy],
    path: str | Path,
    *,
    episodes: int = 1,
    seed: int = 0,
    stochastic: bool = False,
    env: Env | None = None,
) -> Path:
    """Plays episodes of a run's policies and draws where they lead, in a panel for each policy.

    The episodes are those of `evaluate_policy` with the same seed. Of equal paths one is drawn, of different ones the first
    `MOST_PATHS`; of many policies the first `MOST_PANELS`.

    Args:
      policies: all trained in the same environment.
      path: the .png to write; its folder is made if missing, and the file appears whole or not at all.
      episodes: of each policy.
      seed: decides the start states, and the actions where they are sampled.
      stochastic: sample the actions instead of taking the most likely ones.
      env: the environment, where it was not trained on one with a name.

    Returns:
      The path.

    Raises:
      InvalidSettingError: not a .png, or a number that cannot work.
      IncompatibleEnvironmentError: the environment has no plane, or is not what the policies were trained on.
      StorageError: the path cannot be written.
      MaxentRLError: as of `collect_trajectories`.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InvalidSettingError(f"A picture of trajectories is written as .png, got {str(path)!r}.")
    first = policies[0]
    source: Any = open_environment(first, env)
    if not isinstance(source, HasFieldMap):
        raise IncompatibleEnvironmentError(
            f"The trajectories of {first.env} cannot be drawn: it has no plane of cells (a `field_map`) to draw them over, "
            "as maxent/BimodalCoverage has."
        )
    panels = []
    for policy in policies[:MOST_PANELS]:
        played = collect_trajectories(
            policy, episodes, seed=seed, choose=sampled_action if stochastic else most_likely, env=env
        )
        panels.append(Panel(f"{policy.name}: {worth(source, played)}", distinct(played)[:MOST_PATHS]))
    details = [f"after {first.step:,} steps", "sampled actions" if stochastic else "most likely actions"]
    if any(len(each.trajectories) > 1 for each in panels):
        details.append(
            f"{episodes} episodes, at most {MOST_PATHS} drawn" if episodes > MOST_PATHS else f"{episodes} episodes"
        )
    if len(policies) > MOST_PANELS:
        details.append(f"the first {MOST_PANELS} of {len(policies)} policies")
    titles = f"{type(first.agent).__name__} on {first.env}", "  \u00b7  ".join(details)
    return save(draw_trajectories(source.field_map, panels, titles), path)


def worth(env: Any, trajectories: Sequence[Trajectory]) -> str:
    """What trajectories are worth, in words: F, start included, where the environment pays for a set, else the return."""
    name, values = "return", [each.total for each in trajectories]
    if isinstance(env, SubmodularPlane):
        name, values = "F", [_start_value(env, each) + each.total for each in trajectories]
    if np.ptp(values) <= 1e-6 * max(np.abs(values)):
        return f"{name} = {values[0]:,.4g}"
    return f"mean {name} = {np.mean(values):,.4g} ({min(values):,.4g} to {max(values):,.4g})"


def distinct(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """The trajectories without those whose observations another one before had."""
    return list({each.observation.tobytes(): each for each in reversed(trajectories)}.values())[::-1]


def draw_trajectories(field_map: FieldMap, panels: Sequence[Panel], titles: tuple[str, str]) -> Any:
    """Draws trajectories over a plane, in panels side by side that share their scales.

    Args:
      field_map: the plane.
      panels: at least one.
      titles: title and details.

    Returns:
      The figure.
    """
    from matplotlib.figure import Figure

    rows, columns = field_map.value.shape
    down = math.ceil(len(panels) / (_FEW_WIDE if columns >= 2 * rows else _FEW))
    across = math.ceil(len(panels) / down)
    side = next(side for most, side in _LONGER_SIDE.items() if len(panels) <= most or most == MOST_PANELS)
    cell = side / max(rows, columns)
    width, height = max(across * (columns * cell + 0.15) + 1.2, 6.4), down * (rows * cell + 0.35) + 0.45
    whole = Figure(figsize=(width, height + 0.6), layout="constrained", facecolor="white")
    parts: Any = whole.subfigures(2, 1, height_ratios=(0.6, height))
    head, figure = parts
    across_head = 0.06 / width  # where constrained layout lets axes begin
    # Names may hold a dollar sign, which Matplotlib would read as mathematics.
    head.text(across_head, 0.45, titles[0], color=INK, fontsize=13, fontweight="bold", va="bottom", parse_math=False)
    head.text(across_head, 0.05, titles[1], color=FAINT, fontsize=9.5, va="bottom", parse_math=False)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    steps = max(each.length for part in panels for each in part.trajectories)
    drawn = None
    for axes, part in zip(grid, panels, strict=False):
        drawn = panel(axes, field_map, part.trajectories, steps=steps)
        axes.set_title(part.title, loc="left", fontsize=9.5, color=INK, parse_math=False)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    assert drawn is not None
    scales(figure, list(grid), field_map, drawn)
    return whole


def panel(axes: Any, field_map: FieldMap, trajectories: Sequence[Trajectory], *, steps: int | None = None) -> Drawn:
    """Draws trajectories over a plane into axes.

    Args:
      axes: empty ones.
      field_map: the plane.
      trajectories: at least one.
      steps: at which the scale of time ends; None for the longest trajectory's last step.

    Returns:
      What `scales` makes scales of.
    """
    rows, columns = field_map.value.shape
    share = np.mean([field_map.reached(each.observation) for each in trajectories], axis=0)
    field = (_draw_graph if field_map.edges else _draw_cells)(axes, field_map, share)
    steps = max(each.length for each in trajectories) if steps is None else steps
    paths = None
    for each in trajectories:
        paths = _draw_path(axes, field_map.places(each.observation), steps, thin=len(trajectories) > 1)
    _draw_marks(axes, field_map)
    axes.set_aspect("equal")
    edge = 0.75 if field_map.edges else 0.5
    axes.set_xlim(-edge, columns - 1 + edge)
    axes.set_ylim(rows - 1 + edge, -edge)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(FAINT)
        spine.set_visible(not field_map.edges)
    return Drawn(field, paths)


def scales(figure: Any, axes: Sequence[Any], field_map: FieldMap, drawn: Drawn) -> None:
    """Draws what the colours of panels mean: scales of the values and of time, and a legend.

    Args:
      figure: the figure, or the part of one, that the panels are in.
      axes: those of the panels.
      field_map: the plane.
      drawn: of one of the panels.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    low, high = _range(field_map)
    bars = [
        figure.colorbar(
            drawn.paths, ax=axes, shrink=0.8, aspect=30, pad=0.02, ticks=MaxNLocator(5, steps=(1, 2, 5, 10))
        )
    ]
    bars[0].set_label("step", color=FAINT, size=9)
    handles = [
        Line2D([], [], linestyle="", marker="o", color="white", markeredgecolor=INK, markersize=8, label="start"),
        Line2D([], [], linestyle="", marker="s", color=INK, markersize=5, label="end"),
        Patch(color=_REACHED, alpha=0.55, label="reached"),
    ]
    if high > low:
        whole = not np.any(field_map.value[np.isfinite(field_map.value)] % 1)
        bars.append(
            figure.colorbar(drawn.field, ax=axes, shrink=0.8, aspect=30, pad=0.02, ticks=MaxNLocator(5, integer=whole))
        )
        bars[1].ax.set_ylim(low, high)
        bars[1].set_label(field_map.label, color=FAINT, size=9)
    else:  # a scale with one colour would say less
        label = f"{field_map.label}: {low:g} everywhere"
        handles.append(Patch(facecolor=drawn.field.cmap(drawn.field.norm(low)), label=label))
    if not field_map.edges and np.isnan(field_map.value).any():
        handles.append(Patch(color=_WALL, label="wall"))
    for bar in bars:
        bar.ax.tick_params(length=0, colors=FAINT, labelsize=9)
        bar.outline.set_visible(False)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9, labelcolor=INK
    )


def _draw_cells(axes: Any, field_map: FieldMap, share: Array) -> Any:
    from matplotlib.colors import to_rgb

    shown = axes.imshow(np.ma.masked_invalid(field_map.value), interpolation="nearest", zorder=0, **_greys(field_map))
    axes.imshow(
        np.dstack([np.broadcast_to(to_rgb(_REACHED), (*share.shape, 3)), _depth(share)]),
        interpolation="nearest",
        zorder=1,
    )
    return shown


def _draw_graph(axes: Any, field_map: FieldMap, share: Array) -> Any:
    """Nodes as circles of their values' colours: between the nodes of a graph there is nothing, and so no wall either."""
    from matplotlib.collections import LineCollection

    axes.add_collection(LineCollection(list(field_map.edges), colors=FAINT, linewidths=1.2, zorder=1))
    row, column = np.nonzero(np.isfinite(field_map.value))
    depth = _depth(share)[row, column]
    axes.scatter(column[depth > 0], row[depth > 0], s=620, color=_REACHED, alpha=depth[depth > 0], lw=0, zorder=1.5)
    value = field_map.value[row, column]
    return axes.scatter(column, row, s=230, c=value, edgecolor=INK, linewidth=0.8, zorder=2, **_greys(field_map))


def _draw_path(axes: Any, places: Array, steps: int, thin: bool) -> Any:
    """A line whose colour tells the step. It narrows, so that where it comes back, what it was before shows beneath."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    segments = np.stack([places[:-1], places[1:]], axis=1)
    width = np.linspace(1.8, 0.9, len(segments)) if thin else np.linspace(4.6, 1.6, len(segments))
    common: dict[str, Any] = {"capstyle": "round", "clip_on": False, "zorder": 3}  # it may run along the very edge
    below = LineCollection(list(segments), colors="white", linewidths=width + 1.4, **common)
    line = LineCollection(list(segments), linewidths=width, cmap=_time_colours(), norm=Normalize(0, steps), **common)
    line.set_array(np.arange(1, len(segments) + 1))
    if not thin:
        axes.add_collection(below)
    axes.add_collection(line)
    size, own = 0.75 if thin else 1.0, {"clip_on": False}
    axes.plot(*places[0], "o", color="white", mec=INK, mew=1.4, markersize=10 * size, zorder=4, **own)
    axes.plot(*places[-1], "s", color=INK, mec="white", mew=0.8, markersize=6 * size, zorder=5, **own)
    return line


def _draw_marks(axes: Any, field_map: FieldMap) -> None:
    from matplotlib.patheffects import withStroke

    names = sorted({name for _, _, name in field_map.marks})
    # Nodes of a graph have names of their own; elsewhere a name is a kind, of which there are several things. Either way
    # names stand where paths, which lead from middle to middle, leave them legible.
    palette = dict.fromkeys(names, INK) if field_map.edges else dict(zip(names, colours(len(names)), strict=True))
    offset, alignment = ((0, -12), "top") if field_map.edges else ((0, 0), "center_baseline")
    aside = 0.0 if field_map.edges else 0.25
    for column, row, name in field_map.marks:
        axes.annotate(
            name, (column - aside, row - aside), offset, textcoords="offset points", ha="center", va=alignment, fontsize=8.5,
            color=palette[name], fontweight="bold", parse_math=False, zorder=6,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip


def _greys(field_map: FieldMap) -> dict[str, Any]:
    from matplotlib import colormaps

    low, high = _range(field_map)
    # Darker where more lies, but never so dark that what is drawn on top cannot be seen, or might be a wall.
    span = 3.0 * (high - low) if high > low else 1.0
    return {"cmap": colormaps["Greys"].with_extremes(bad=_WALL), "vmin": low - 0.1 * span, "vmax": low + span}


def _range(field_map: FieldMap) -> tuple[float, float]:
    return float(np.nanmin(field_map.value)), float(np.nanmax(field_map.value))


def _depth(share: Array) -> Array:
    """Opacity of what a share of the trajectories reached."""
    return np.where(share > 0, 0.15 + 0.4 * share, 0.0)


def _time_colours() -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["plasma"](np.linspace(0.0, 0.85, 256)))  # its yellow cannot be seen on white


def _start_value(env: SubmodularPlane, trajectory: Trajectory) -> float:
    """What the start is worth, for which no step pays."""
    element = cast(Seen, env.motion).element_seen(trajectory.observation[0])
    return float(env.element_value_at_start(jnp.asarray(element)))
