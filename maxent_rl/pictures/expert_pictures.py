"""Pictures of what experts do: over an episode, over training, and over the states.

Experts are told apart by colour, and where it can be by place as well, so that no picture needs colour vision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxent_rl.pictures.expertise import Expertise
from maxent_rl.pictures.style import FAINT, GRID, INK, colours, heading, style
from maxent_rl.playing.trajectories import Trajectory

Titles = tuple[str, str]
Array = NDArray[Any]

_TIMELINES = 3  # episodes that fit on a page
_ONE_STEP_SHOWN = 60  # one-step episodes whose bars can still be told apart
_CELLS = 12  # arrows along the longer side of the plane of states
_MOST_POINTS = 4000


def timeline(expertise: Expertise, trajectories: Sequence[Trajectory], titles: Titles) -> Any:
    """Which expert acts when in the first episodes, the router's weights, and the reward.

    Episodes of one step are shown in a row, each as one step.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    parts = _episodes(expertise, trajectories)
    names, palette = _names(expertise.num_experts), colours(expertise.num_experts)
    strip = 0.2 + 0.13 * expertise.num_experts
    ratios = [strip, 0.9, 0.65] * len(parts)
    figure = Figure(figsize=(9.0, 1.0 + sum(ratios) + 0.5 * len(parts)), layout="constrained", facecolor="white")
    grid = figure.subplots(len(ratios), 1, height_ratios=ratios)
    figure.set_layout_engine("constrained", h_pad=0.03)
    for (title, rows, reward), (acting, weight, paid) in zip(parts, grid.reshape(-1, 3), strict=True):
        chosen, weights, edges = expertise.chosen[rows], expertise.weights[rows], np.arange(len(reward) + 1)
        image = np.ones((expertise.num_experts, len(reward), 3))
        image[chosen, np.arange(len(reward))] = np.array([_rgb(palette[expert]) for expert in chosen])
        extent = (0, len(reward), expertise.num_experts - 0.5, -0.5)
        acting.imshow(image, aspect="auto", extent=extent, interpolation="nearest")
        acting.set_yticks(range(expertise.num_experts))
        acting.set_ylabel("expert" if expertise.draws else "heaviest", color=FAINT)
        weight.stackplot(edges, _repeat_last(weights).T, colors=palette, step="post", linewidth=0)
        weight.set_ylim(0, 1)
        weight.set_yticks((0, 0.5, 1))
        weight.set_ylabel("weight", color=FAINT)
        paid.stairs(reward, edges, color=INK, linewidth=1.2, baseline=None)
        paid.set_ylabel("reward", color=FAINT)
        for axes in (acting, weight, paid):
            style(axes)
            axes.grid(visible=axes is paid, axis="y")
            axes.set_xlim(0, len(reward))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        weight.margins(y=0)
        acting.set_xticks([])
        weight.set_xticks([])
        acting.annotate(title, (1, 1), (0, 4), "axes fraction", "offset points", color=FAINT, ha="right", fontsize=9)
    figure.align_ylabels()
    grid[-1].set_xlabel("episode" if _one_step(trajectories) else "step of the episode", color=FAINT)
    heading(grid[0], *titles)
    _legend(figure, names, palette)
    return figure


def usage(training: Sequence[Mapping[str, float]], titles: Titles) -> Any:
    """The router over training: its weights, which expert was best, its entropy, and where one expert held everything."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    count = _width(training, "router/usage_")
    best = _width(training, "router/best_") == count
    steps = _column(training, "step")
    palette = colours(count)
    figure = Figure(figsize=(7.6, 6.4 if best else 4.6), layout="constrained", facecolor="white")
    panels = figure.subplots(3 if best else 2, 1, sharex=True)
    stacked = {"router/usage_": "mean weight"} | ({"router/best_": "share of being best"} if best else {})
    for axes, (prefix, label) in zip(panels, stacked.items(), strict=False):
        shares = np.array([_column(training, f"{prefix}{expert}") for expert in range(count)])
        axes.stackplot(_bounds(steps), _repeat_last(shares.T).T, colors=palette, step="post", linewidth=0)
        axes.set_ylabel(label, color=FAINT)
        axes.set_ylim(0, 1)
        axes.set_yticks((0, 0.5, 1))
    entropy, most = panels[-1], math.log(count)
    entropy.plot(
        steps, _column(training, "router/entropy"), color=INK, linewidth=1.8, marker="o", ms=2.5, clip_on=False
    )
    entropy.axhline(most, color=FAINT, linewidth=1, linestyle=(0, (5, 3)), zorder=1)
    label = f"log {count} = {most:.2f}: all alike"
    blank = {"facecolor": "white", "linewidth": 0, "pad": 1}
    place = {"textcoords": "offset points", "xycoords": ("axes fraction", "data")}
    entropy.annotate(label, (1, most), (-4, 4), color=FAINT, fontsize=9, ha="right", bbox=blank, **place)
    entropy.set_ylabel("router's entropy (nats)", color=FAINT)
    entropy.set_xlabel("environment steps per seed", color=FAINT)
    entropy.xaxis.set_major_formatter(EngFormatter(sep=""))
    entropy.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    for axes in panels:
        style(axes)
        axes.grid(visible=axes is entropy, axis="y")
        axes.set_xlim(_bounds(steps)[0], _bounds(steps)[-1])
    entropy.set_ylim(0, 1.22 * most)
    shaded = _shade(panels, steps, _column(training, "router/collapsed") > 0.5)
    heading(panels[0], *titles)
    figure.align_ylabels()
    if shaded is not None:  # the curve lies at the bottom there
        entropy.legend(
            handles=[shaded], loc="center right", fontsize=9, labelcolor=INK, framealpha=1, edgecolor="white"
        )
    _legend(figure, _names(count), palette)
    return figure


def states(expertise: Expertise, trajectories: Sequence[Trajectory], titles: Titles) -> Any:
    """The plane of visited states: who is in charge where, and what each expert would do there.

    Up to two observations are drawn as they are; of more, scaled to unit variance, the two principal components.
    """
    from matplotlib.figure import Figure

    plane, labels = embed(expertise.observation, trajectories)
    count, palette = expertise.num_experts, colours(expertise.num_experts)
    columns = math.ceil(count / 2)
    figure = Figure(figsize=(5.2 + 2.5 * columns, 5.4), layout="constrained", facecolor="white")
    halves: Any = figure.subfigures(1, 2, width_ratios=(4.6, 2.5 * columns))
    whole, parts = halves
    axes = whole.subplots()
    kept = np.random.default_rng(0).permutation(len(plane))[:_MOST_POINTS]  # no expert lies on top of another
    axes.scatter(*plane[kept].T, s=9, c=[palette[expert] for expert in expertise.chosen[kept]], alpha=0.7, linewidth=0)
    _plane_style(axes)
    axes.set_xlabel(labels[0], color=FAINT)
    axes.set_ylabel(labels[1], color=FAINT)
    heading(axes, *titles)
    at = _spread_out(plane)
    panels = parts.subplots(2, columns, sharex=True, sharey=True, squeeze=False).ravel()
    drawn, scalar = None, expertise.actions.shape[-1] == 1
    for expert, panel in enumerate(panels[:count]):
        mine = plane[kept][expertise.chosen[kept] == expert]
        panel.scatter(*plane[kept].T, s=4, color=GRID, linewidth=0)
        # Where a mean action is a colour, an expert's own colour would be one too many.
        panel.scatter(*mine.T, s=10, color=FAINT if scalar else palette[expert], alpha=0.7, linewidth=0)
        drawn = _draw_actions(panel, plane[at], expertise.actions[at, expert])
        _plane_style(panel)
        share = (
            f"acts in {expertise.usage[expert]:.0%}"
            if expertise.draws
            else f"heaviest in {expertise.usage[expert]:.0%}"
        )
        panel.set_title(f"expert {expert}: {share}", loc="left", fontsize=9.5, color=INK)
    for panel in panels[count:]:
        panel.set_visible(False)
    _legend(whole, _names(count), palette, columns=4)
    if scalar:
        bar = parts.colorbar(drawn, ax=list(panels), shrink=0.7, aspect=30, ticks=(-1, 0, 1))
        bar.set_label("mean action", color=FAINT, size=9)
        bar.ax.tick_params(length=0, colors=FAINT, labelsize=9)
        bar.outline.set_visible(False)
    else:
        parts.supxlabel("arrows: mean action, dimension 1 to the right and 2 upwards", color=FAINT, fontsize=9)
    return figure


def embed(observation: Array, trajectories: Sequence[Trajectory]) -> tuple[Array, tuple[str, str]]:
    """A plane for observations [state, observation], and the names of its axes."""
    from maxent_rl.pictures.expertise import principal_components

    if observation.shape[1] == 1:
        steps = np.concatenate([np.arange(each.length) for each in trajectories])
        return np.stack([observation[:, 0], steps], axis=1), ("observation", "step of the episode")
    if observation.shape[1] == 2:
        return observation, ("observation 1", "observation 2")
    spread = observation.std(axis=0)
    plane, shares = principal_components(observation / np.where(spread > 0, spread, 1.0))
    first, second = (
        f"principal component {index + 1} ({share:.0%} of the variance)" for index, share in enumerate(shares)
    )
    return plane, (first, second)


def _draw_actions(axes: Any, points: Array, actions: Array) -> Any:
    if actions.shape[-1] == 1:
        return axes.scatter(
            *points.T, s=34, c=actions[:, 0], cmap="PuOr", vmin=-1, vmax=1, edgecolor=INK, linewidth=0.4, zorder=3
        )
    return axes.quiver(
        *points.T,
        actions[:, 0],
        actions[:, 1],
        color=INK,
        scale=0.8 * _CELLS,
        width=0.007,
        headwidth=4,
        zorder=3,
        pivot="tail",
    )


def _spread_out(plane: Array) -> Array:
    """Numbers of states that lie evenly over the plane: of each cell of a grid, the one nearest to its middle."""
    low, high = plane.min(axis=0), plane.max(axis=0)
    place = (plane - low) / np.where(high > low, high - low, 1.0) * _CELLS
    cell = np.minimum(place.astype(int), _CELLS - 1)
    off = np.linalg.norm(place - cell - 0.5, axis=1)
    order = np.lexsort((off, cell[:, 0] * _CELLS + cell[:, 1]))
    _, first = np.unique((cell[:, 0] * _CELLS + cell[:, 1])[order], return_index=True)
    nearest: Array = order[first]
    return nearest


def _episodes(expertise: Expertise, trajectories: Sequence[Trajectory]) -> list[tuple[str, slice, Array]]:
    """Title, rows of `expertise` and rewards of what the timeline shows."""
    rewards = [each.reward for each in trajectories]
    if _one_step(trajectories):
        joined = np.concatenate(rewards[:_ONE_STEP_SHOWN])
        return [(f"first {len(joined)} episodes", slice(0, len(joined)), joined)]
    ends = np.cumsum([each.length for each in trajectories])
    return [
        (
            f"episode {index + 1}: {each.length} steps, return {each.total:,.{0 if abs(each.total) >= 1000 else 2}f}",
            slice(end - each.length, end),
            each.reward,
        )
        for index, (each, end) in enumerate(zip(trajectories[:_TIMELINES], ends, strict=False))
    ]


def _one_step(trajectories: Sequence[Trajectory]) -> bool:
    return all(each.length == 1 for each in trajectories)


def _shade(panels: Sequence[Any], steps: Array, collapsed: Array) -> Any:
    """Hatches where one expert held everything, and returns what stands for it in a legend."""
    drawn, edges = None, _bounds(steps)
    for index in np.flatnonzero(collapsed):
        for axes in panels:
            drawn = axes.axvspan(
                edges[index], edges[index + 1], hatch="//", facecolor="white", edgecolor=INK, linewidth=0
            )
            drawn.set_alpha(0.35)
    if drawn is not None:
        drawn.set_label("collapsed: one holds over 99 %")
    return drawn


def _legend(figure: Any, names: Sequence[str], palette: Sequence[str], columns: int = 8) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=color, label=name) for name, color in zip(names, palette, strict=True)]
    rows = math.ceil(len(names) / columns)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=math.ceil(len(names) / rows), frameon=False, fontsize=9,
        labelcolor=INK, handlelength=1.0, handleheight=1.0, columnspacing=1.2,
    )  # fmt: skip


def _plane_style(axes: Any) -> None:
    style(axes)
    axes.grid(visible=False)
    axes.margins(0.06)


def _names(count: int) -> list[str]:
    return [f"expert {index}" for index in range(count)]


def _rgb(color: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return to_rgb(color)


def _bounds(steps: Array) -> Array:
    """[row + 1] where the interval of each row of metrics.csv begins and ends: a row tells of what led to its step."""
    first = steps[0] - (steps[1] - steps[0] if len(steps) > 1 else max(steps[0], 1.0))
    return np.concatenate([[max(first, 0.0)], steps])


def _repeat_last(rows: Array) -> Array:
    """[n, ...] to [n + 1, ...]: a step plot draws its last value only up to a further edge."""
    return np.concatenate([rows, rows[-1:]])


def _column(rows: Sequence[Mapping[str, float]], name: str) -> Array:
    return np.array([row.get(name, math.nan) for row in rows])


def _width(rows: Sequence[Mapping[str, float]], prefix: str) -> int:
    return sum(name.startswith(prefix) and math.isfinite(value) for name, value in rows[-1].items())
