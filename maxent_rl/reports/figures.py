"""Figures of a report, small enough that their text stays readable across a phone.

Matplotlib is used through its objects alone, never through `pyplot`, and imported only when something is drawn.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from maxent_rl.reports.results import AGGREGATES, CONFIDENCE, Curve, Results
from maxent_rl.reports.statistics import Floats, Interval

# Okabe and Ito's colours, told apart by people with any colour vision; yellow is left out, too faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_INK, _FAINT, _GRID = "#111827", "#374151", "#d1d5db"
_WIDTH, _HEIGHT = 4.6, 3.1  # inches: 331 points, about as wide as a phone's page, so that 10 points stay 10 points
_LINE = 0.19  # inches of a line of the legend
_FEW_POINTS = 12  # up to here every point gets a mark: a line through one point is invisible
_LEGEND_WIDTH = 48  # characters
BAND = f"{CONFIDENCE:.0%} stratified bootstrap interval"


class Picture(NamedTuple):
    """A figure and what stands around it.

    Attributes:
      name: of its file, without ending; a plain file name.
      section: "curves", "clocks" or "aggregates".
      title: short.
      caption: how to read it.
      figure: a Matplotlib figure.
    """

    name: str
    section: str
    title: str
    caption: str
    figure: Any


def draw_all(results: Results) -> list[Picture]:
    """Draws what the results have: curves of each environment, and over all of them, profiles and comparisons.

    Args:
      results: as computed by `compute`.

    Returns:
      The figures in the order in which they are read.
    """
    styles = _styles(results.shown)
    metric = "undiscounted return" if results.options.metric == "return_mean" else results.options.metric
    pictures: list[Picture] = []
    for number, env in enumerate(results.study.envs):
        curves = {method: curve for (name, method), curve in results.curves.items() if name == env}
        if curves:
            figure = _draw_curves(curves, styles, "environment steps per seed", metric, _steps)
            caption = _curve_caption(results, env)
            pictures.append(Picture(_file_name("curve", env, number), "curves", env, caption, figure))
    for number, env in enumerate(results.study.envs):
        clocks = {method: curve for (name, method), curve in results.clocks.items() if name == env}
        if clocks:
            unit, label = _time_unit(max(float(curve.x[-1]) for curve in clocks.values()))
            clocks = {method: Curve(curve.x / unit, curve.iqm) for method, curve in clocks.items()}
            figure = _draw_curves(clocks, styles, f"wall-clock time, {label}", metric, _plain)
            caption = (
                "The same curves over time, with compiling, evaluating and saving. The seeds of a run train side by side: "
                "it is the time of all of them together, on the hardware listed below."
            )
            pictures.append(Picture(_file_name("clock", env, number), "clocks", env, caption, figure))
    return pictures + _aggregate_pictures(results, styles)


def _aggregate_pictures(results: Results, styles: Mapping[str, _Style]) -> list[Picture]:
    pictures, over = [], _over(results.common)
    if results.aggregates:
        figure = _draw_aggregates({method: results.aggregates[method] for method in results.shown}, styles)
        caption = f"Normalised scores {over}: estimate and {BAND}. For the optimality gap, less is better."
        pictures.append(Picture("aggregates", "aggregates", "Aggregate statistics", caption, figure))
    if results.aggregate_curves:
        figure = _draw_curves(
            results.aggregate_curves, styles, "environment steps per seed", "interquartile mean, normalised", _steps
        )
        caption = f"Interquartile mean of the normalised scores {over}, as far as all have come. Band: {BAND}."
        pictures.append(Picture("aggregate-curve", "aggregates", "Over training", caption, figure))
    if results.profiles:
        figure = _draw_profiles(results, styles)
        caption = (
            f"Share of runs with a normalised score above each threshold, {over}. Higher is better; where two curves "
            f"cross, neither method is better at all levels. Band: {BAND}, pointwise."
        )
        pictures.append(Picture("profiles", "aggregates", "Performance profiles", caption, figure))
    if results.improvements:
        figure = _draw_improvements(results)
        caption = (
            "How likely a run of the first method scores higher than a run of the second on the same environment, "
            f"averaged over the environments that both have. Line: {BAND}. At one half, neither is better."
        )
        pictures.append(Picture("improvement", "aggregates", "Probability of improvement", caption, figure))
    return pictures


class _Style(NamedTuple):
    color: str
    dashes: Any


def _styles(methods: Sequence[str]) -> dict[str, _Style]:
    return {
        method: _Style(_COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)])
        for index, method in enumerate(methods)
    }


def _new(height: float = _HEIGHT, legend: Sequence[str] = ()) -> tuple[Any, Any]:
    """A figure with one set of axes, taller by the lines of its legend."""
    from matplotlib.figure import Figure

    lines = sum(label.count("\n") + 1 for label in map(_wrap, legend))
    figure = Figure(figsize=(_WIDTH, height + lines * _LINE), layout="constrained", facecolor="white")
    axes = figure.subplots()
    _style_axes(axes)
    return figure, axes


def _style_axes(axes: Any) -> None:
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_FAINT)
    axes.tick_params(colors=_INK, labelsize=10, length=3, color=_FAINT)


def _label(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x, color=_INK, fontsize=10.5, parse_math=False)
    axes.set_ylabel(y, color=_INK, fontsize=10.5, parse_math=False)


def _legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    legend = figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=1,
        frameon=False,
        fontsize=10,
        handlelength=2.6,
        labelspacing=0.25,
        labelcolor=_INK,
    )
    for text in legend.get_texts():  # a name may hold a dollar sign, which Matplotlib would read as mathematics
        text.set_parse_math(False)


def _draw_curves(
    curves: Mapping[str, Curve], styles: Mapping[str, _Style], x: str, y: str, formatter: Callable[[float], str]
) -> Any:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure, axes = _new(legend=list(curves))
    for method, curve in curves.items():
        few = len(curve.x) <= _FEW_POINTS
        _draw_line(axes, curve.x, curve.iqm, styles[method], method, marker="o" if few else None)
    _label(axes, x, y)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: formatter(value)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.set_xlim(0, max(float(curve.x[-1]) for curve in curves.values()) * 1.03 or 1)
    _legend(figure, axes)
    return figure


def _draw_line(axes: Any, x: Floats, interval: Interval, style: _Style, method: str, marker: str | None = None) -> None:
    if np.isfinite(interval.low).any():
        axes.fill_between(x, interval.low, interval.high, color=style.color, alpha=0.18, linewidth=0, zorder=1)
    axes.plot(
        x,
        interval.estimate,
        color=style.color,
        linestyle=style.dashes,
        linewidth=2,
        marker=marker,
        markersize=4,
        label=_wrap(method),
        zorder=3,
    )


def _draw_profiles(results: Results, styles: Mapping[str, _Style]) -> Any:
    figure, axes = _new(legend=list(results.profiles))
    for method, profile in results.profiles.items():
        _draw_line(axes, results.thresholds, profile, styles[method], method)
    _label(axes, "normalised score", "share of runs above it")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(results.thresholds[0], results.thresholds[-1])
    _legend(figure, axes)
    return figure


def _draw_aggregates(aggregates: Mapping[str, Mapping[str, Interval]], styles: Mapping[str, _Style]) -> Any:
    """One panel for each statistic, one line for each method."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    labels = [_wrap(method) for method in aggregates]
    lines = sum(label.count("\n") + 1 for label in labels)
    height = len(AGGREGATES) * (0.62 + 0.2 * len(labels)) + lines * _LINE
    figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")
    panels = figure.subplots(len(AGGREGATES), 1)
    for axes, name in zip(panels, AGGREGATES, strict=True):
        _style_axes(axes)
        for position, (method, label) in enumerate(zip(aggregates, labels, strict=True)):
            _draw_interval(axes, aggregates[method][name], -position, styles[method].color, label)
        axes.set_title(name, loc="left", fontsize=10.5, color=_INK)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
        axes.set_ylim(-len(labels) + 0.4, 0.6)
    _legend(figure, panels[0])
    return figure


def _draw_improvements(results: Results) -> Any:
    """Each comparison is a line of its own with its names above it: names of methods are long."""
    several = len(results.study.envs) > 1
    names = [
        f"{_wrap(pair.first)}\n> {_wrap(pair.second)}" + (f"\n{_over(pair.envs)}" if several else "")
        for pair in results.improvements
    ]
    heights = [0.34 + 0.17 * (name.count("\n") + 1) for name in names]
    figure, axes = _new(height=0.75 + sum(heights))
    below = 0.0
    for pair, name, height in zip(results.improvements, names, heights, strict=True):
        axes.text(0.0, below - 0.02, name, va="top", fontsize=9.5, color=_INK, parse_math=False)
        below -= height
        axes.plot([0.5, 0.5], [below + 0.02, below + 0.18], color=_FAINT, linewidth=1.2, zorder=1)  # neither is better
        _draw_interval(axes, pair.chance, below + 0.1, _COLOURS[0], None)
    axes.set_ylim(below - 0.05, 0.05)
    axes.set_xlim(-0.03, 1.03)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    _label(axes, "probability", "")
    return figure


def _draw_interval(axes: Any, interval: Interval, y: float, color: str, label: str | None) -> None:
    low, estimate, high = float(interval.low), float(interval.estimate), float(interval.high)
    if math.isfinite(low) and math.isfinite(high):
        axes.plot([low, high], [y, y], color=color, linewidth=6, alpha=0.35, solid_capstyle="butt", zorder=2)
    axes.plot([estimate], [y], color=color, marker="o", markersize=6, linestyle="none", label=label, zorder=3)


def _curve_caption(results: Results, env: str) -> str:
    seeds = {method: len(group.members) for (name, method), group in results.study.groups.items() if name == env}
    counts = sorted({count for method, count in seeds.items() if method in results.shown})
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    noun = "seed" if counts == [1] else "seeds"
    line = "the only seed" if counts == [1] else f"interquartile mean of {number} {noun}"
    if len(counts) > 1 or 1 < counts[0] < 4:
        line += " (with fewer than four: their mean)"
    band = "no band, for one seed says nothing of others" if counts == [1] else f"band: {BAND}"
    return f"Line: {line}; {band}."


def _over(envs: Iterable[str]) -> str:
    count = len(list(envs))
    return f"over {count} environments" if count != 1 else "on 1 environment"


def _wrap(label: str) -> str:
    return textwrap.fill(label, _LEGEND_WIDTH)


def _file_name(kind: str, env: str, number: int) -> str:
    """Plain and different for different environments, whatever their names hold."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", env).strip("-")[:60]
    return f"{kind}-{number + 1}-{plain}".rstrip("-")


def _steps(value: float) -> str:
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def _plain(value: float) -> str:
    return f"{value:,.6g}"


def _time_unit(longest: float) -> tuple[float, str]:
    """Seconds in a unit, and its name."""
    if longest < 180:
        return 1.0, "seconds"
    return (60.0, "minutes") if longest < 3 * 3600 else (3600.0, "hours")
