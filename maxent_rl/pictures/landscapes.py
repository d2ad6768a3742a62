"""What a policy does in an environment with several right answers, drawn over what that environment pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.reward_map import RewardMap
from maxent_rl.pictures.expertise import Expertise
from maxent_rl.pictures.style import FAINT, GRID, INK, colours, heading, style
from maxent_rl.playing.trajectories import Trajectory

Array = NDArray[Any]
Drawn = tuple[Any, list[Any]]  # the axes that carry the title, and what a legend is made of

_POINTS = 201  # along each side of the landscape
_MARKERS = 3000
_BINS = 50


def landscape(
    reward_map: RewardMap,
    trajectories: Sequence[Trajectory],
    expertise: Expertise | None,
    titles: tuple[str, str],
) -> Any:
    """Draws episodes over what the environment pays, with the share that came to each right answer.

    Args:
      reward_map: the landscape.
      trajectories: the episodes.
      expertise: whose experts colour the actions, if there are experts.
      titles: title and details.
    """
    from matplotlib.figure import Figure

    whole = Figure(figsize=(8.5, 5.2), layout="constrained", facecolor="white")
    parts: Any = whole.subfigures(1, 2, width_ratios=(6.0, 2.5))
    figure, margin = parts
    axes, legend = panel(figure, reward_map, trajectories, expertise)
    heading(axes, *titles)
    title = "episodes that end at" if reward_map.over == "observation" else "actions within reach of"
    margin.legend(
        handles=legend, loc="upper left", title=title, frameon=False, fontsize=9, labelcolor=INK, title_fontsize=9,
        alignment="left", borderaxespad=0, bbox_to_anchor=(0, 0.86),
    )  # fmt: skip
    return whole


def panel(
    figure: Any,
    reward_map: RewardMap,
    trajectories: Sequence[Trajectory],
    expertise: Expertise | None,
    *,
    scale: bool = True,
) -> Drawn:
    """Draws episodes over what the environment pays into a figure, or into a part of one that holds several.

    Args:
      figure: a figure or a subfigure of its own.
      reward_map: the landscape.
      trajectories: the episodes.
      expertise: as for `landscape`.
      scale: whether a plane has a scale of its colours beside it.

    Returns:
      (axes, legend): the axes that take a title, and what a legend is made of.
    """
    if reward_map.over == "observation":
        return _draw_paths(figure, reward_map, trajectories, scale)
    if len(reward_map.names) == 1:
        return _draw_line(figure, reward_map, trajectories, expertise)
    return _draw_plane(figure, reward_map, trajectories, expertise, scale)


def shares(reward_map: RewardMap, trajectories: Sequence[Trajectory]) -> Array:
    """Shares [optimum + 1] of what reached each optimum, and last none: of episodes by their ends, or of all actions."""
    if reward_map.over == "observation":
        points = np.array([each.observation[-1] for each in trajectories])
    else:
        points = np.concatenate([each.action for each in trajectories])
    count = len(reward_map.optima)
    return np.bincount(reward_map.reached(points) % (count + 1), minlength=count + 1) / len(points)


def _draw_paths(figure: Any, reward_map: RewardMap, trajectories: Sequence[Trajectory], scale: bool) -> Drawn:
    from matplotlib.lines import Line2D

    axes = figure.subplots()
    _contours(figure, axes, reward_map, scale)
    palette = [*colours(len(reward_map.optima)), INK]
    thin = min(0.8, 0.25 + 15 / len(trajectories))
    for each in trajectories:
        reached = int(reward_map.reached(each.observation[-1]))
        axes.plot(*each.observation.T, color=palette[reached], linewidth=0.9, alpha=thin, zorder=3)
        axes.plot(*each.observation[-1], "o", color=palette[reached], markersize=3.5, alpha=0.9, zorder=4)
    _circles(axes, reward_map, palette)
    labels = [*_optimum_names(reward_map), f"no {reward_map.noun}"]
    found = shares(reward_map, trajectories)
    handles = [
        Line2D([], [], color=color, marker="o", markersize=4, label=f"{label}: {share:.0%}")
        for color, label, share in zip(palette, labels, found, strict=True)
    ]
    return axes, handles


def _draw_plane(
    figure: Any, reward_map: RewardMap, trajectories: Sequence[Trajectory], expertise: Expertise | None, scale: bool
) -> Drawn:
    from matplotlib.lines import Line2D

    axes = figure.subplots()
    _contours(figure, axes, reward_map, scale)
    count = len(reward_map.optima)
    _circles(axes, reward_map, [INK] * count)
    handles = [
        Line2D([], [], linestyle="", marker=f"${index + 1}$", color=INK, label=f"{label}: {share:.0%}")
        for index, (label, share) in enumerate(
            zip([*_optimum_names(reward_map), "none"], shares(reward_map, trajectories), strict=True)
        )
    ]
    handles[-1].set_marker("")
    for index, optimum in enumerate(reward_map.optima):
        where = np.array(optimum) + 0.72 * reward_map.radius * np.sign(optimum)
        away = 5 * np.sign(optimum)
        axes.annotate(str(index + 1), where, away, textcoords="offset points", ha="center", va="center", color=INK)
    for name, color, points in _groups(trajectories, expertise):
        axes.scatter(*points[:_MARKERS].T, s=8, color=color, alpha=0.55, linewidth=0, zorder=3)
        handles.append(Line2D([], [], linestyle="", marker="o", color=color, label=name))
    return axes, handles


def _draw_line(
    figure: Any, reward_map: RewardMap, trajectories: Sequence[Trajectory], expertise: Expertise | None
) -> Drawn:
    from matplotlib.patches import Patch
    from matplotlib.ticker import PercentFormatter

    value, counts = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.6))
    grid = np.linspace(-reward_map.edge, reward_map.edge, _POINTS)
    value.fill_between(grid, np.asarray(reward_map.value(jnp.asarray(grid[:, None]))), color=GRID, linewidth=0)
    value.plot(grid, np.asarray(reward_map.value(jnp.asarray(grid[:, None]))), color=FAINT, linewidth=1.5)
    value.set_ylabel(reward_map.label, color=FAINT)
    groups = _groups(trajectories, expertise)
    total = sum(len(points) for _, _, points in groups)
    counts.hist(
        [points[:, 0] for _, _, points in groups],
        bins=np.linspace(-reward_map.edge, reward_map.edge, _BINS + 1),
        weights=[np.full(len(points), 1 / total) for _, _, points in groups],
        color=[color for _, color, _ in groups],
        stacked=True,
    )
    counts.set_ylabel("share of actions", color=FAINT)
    counts.set_xlabel(reward_map.names[0], color=FAINT)
    counts.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (value, counts):
        style(axes)
        for (optimum,) in reward_map.optima:
            axes.axvspan(
                optimum - reward_map.radius, optimum + reward_map.radius, color=INK, alpha=0.05, lw=0, zorder=0
            )
    value.set_ylim(bottom=0)
    counts.set_xlim(-reward_map.edge, reward_map.edge)
    handles = [
        Patch(facecolor="none", edgecolor="none", label=f"{label}: {share:.0%}")
        for label, share in zip([*_optimum_names(reward_map), "none"], shares(reward_map, trajectories), strict=True)
    ]
    handles += [Patch(color=color, label=name) for name, color, _ in groups]
    return value, handles


def _groups(trajectories: Sequence[Trajectory], expertise: Expertise | None) -> list[tuple[str, str, Array]]:
    """Name, colour and actions of what is drawn in one colour: those of each expert, or all."""
    actions = np.concatenate([each.action for each in trajectories])
    if expertise is None:
        return [("all actions", colours(1)[0], actions)]
    by = "by expert" if expertise.draws else "heaviest expert"
    return [
        (f"{by} {index}: {expertise.usage[index]:.0%}", color, actions[expertise.chosen == index])
        for index, color in enumerate(colours(expertise.num_experts))
    ]


def _contours(figure: Any, axes: Any, reward_map: RewardMap, scale: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    side = np.linspace(-reward_map.edge, reward_map.edge, _POINTS)
    points = np.stack(np.meshgrid(side, side), axis=-1)
    value = np.asarray(reward_map.value(jnp.asarray(points, jnp.float32)))
    # Darker where it pays, but never so dark that what is drawn on top cannot be seen.
    darkest = value.min() + 3.0 * np.ptp(value)
    extent = (-reward_map.edge, reward_map.edge) * 2
    shown = axes.imshow(
        value, cmap="Greys", vmin=value.min(), vmax=darkest, extent=extent, origin="lower", interpolation="bilinear"
    )
    axes.contour(side, side, value, levels=8, colors="white", linewidths=0.7, linestyles="solid", zorder=1)
    if scale:
        bar = figure.colorbar(shown, ax=axes, shrink=0.7, aspect=28, pad=0.02, ticks=MaxNLocator(nbins=5))
        bar.ax.set_ylim(value.min(), value.max() + 0.01 * np.ptp(value))  # a tick at the top must fit
        bar.set_label(reward_map.label, color=FAINT, size=9)
        bar.ax.tick_params(length=0, colors=FAINT, labelsize=9)
        bar.outline.set_visible(False)
    axes.set_aspect("equal")
    style(axes)
    axes.grid(visible=False)
    axes.set_xlim(-reward_map.edge, reward_map.edge)
    axes.set_ylim(-reward_map.edge, reward_map.edge)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.set_xlabel(reward_map.names[0], color=FAINT)
    axes.set_ylabel(reward_map.names[1], color=FAINT)


def _circles(axes: Any, reward_map: RewardMap, palette: Sequence[str]) -> None:
    from matplotlib.patches import Circle

    for optimum, color in zip(reward_map.optima, palette, strict=False):
        axes.add_patch(
            Circle((optimum[0], optimum[1]), reward_map.radius, fill=False, edgecolor=color, linewidth=1.8, zorder=2)
        )


def _optimum_names(reward_map: RewardMap) -> list[str]:
    return [
        f"{reward_map.noun} {index + 1} ({', '.join(f'{entry:g}' for entry in optimum)})"
        for index, optimum in enumerate(reward_map.optima)
    ]
