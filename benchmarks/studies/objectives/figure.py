"""The board as a picture, what variety costs, and all numbers of every seed as a table."""

from __future__ import annotations

import csv
import os
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.lab.statistics import interquartile
from benchmarks.lab.study import Result, Results
from benchmarks.studies.objectives.scores import Place, board, scores, whole_tasks, with_start
from benchmarks.studies.objectives.setting import BASE, LABELS, START, Defaults, Tuned
from maxent_rl.pictures.style import FAINT, GRID, INK, save, style
from maxent_rl.reports.statistics import Interval, interquartile_mean

_COLOURS = {"better": "#009E73", "worse": "#D55E00", "": "#7F7F7F", "equal": "#56B4E9"}
_BASE_COLOUR = "#0072B2"
_ROW = 0.175  # inches


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Writes the numbers of every seed as a table, draws both figures of each part, and says what they show."""
    write_table(results, folder / "objectives.csv")
    found = {}
    for part, shows in ((Tuned.part, "tuned"), (Defaults.part, "with one learning rate for all")):
        places = board(with_start(results, part)) if part in results else []
        if not places:
            continue
        ranked, variety = folder / f"{part}.png", folder / f"{part}-entropy.png"
        save(_ranked(results, part, places), ranked, dpi=110)
        save(_variety(with_start(results, part), places), variety, dpi=110)
        found[f"pass@1 of every objective less that of grpo, {shows}, with 95 % intervals"] = ranked
        found[f"pass@1 by entropy after learning, {shows}, a point with intervals for each objective"] = variety
    return found


def write_table(results: Results, path: Path) -> None:
    """Writes one row for each part, task, competitor and seed."""
    rows = [
        {"part": part, "task": run["env"], "objective": run["contender"], "seed": run["repeat"]}
        | {name: f"{value:.6g}" for name, value in run["values"].items()}
        for part, result in results.items()
        for run in result["runs"]
        if "values" in run
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, path)


def _ranked(results: Results, part: str, places: Sequence[Place]) -> Figure:
    """Differences from the one compared with: a row for each competitor; a panel for all tasks, and one for each."""
    result = with_start(results, part)
    wanted, reached = whole_tasks(result), scores(result, "pass@1")
    before = scores(results[Defaults.part], "pass@1") if part == Tuned.part and Defaults.part in results else {}
    panels = [wanted, *([task] for task in wanted)] if len(wanted) > 1 else [wanted]
    size = (max(2.4 + 2.7 * len(panels), 7.5), 1.4 + _ROW * len(places))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, chosen in zip(grid, panels, strict=True):
        axes.axvline(0, color=_BASE_COLOUR, linewidth=1.2, zorder=1)
        base, bars = [np.asarray(reached[BASE][task]) for task in chosen], []
        untuned: dict[int, float] = {}
        for row, place in enumerate(places):
            own = before.get(place.name, {})
            if place.name != START and set(chosen) <= own.keys():
                earlier = [np.asarray(own[task]) - than for task, than in zip(chosen, base, strict=True)]
                untuned[row] = float(interquartile_mean(earlier))
            apart = [np.asarray(reached[place.name][task]) - than for task, than in zip(chosen, base, strict=True)]
            bars.append(interquartile([list(each) for each in apart]))
        edge = _edge(bars)
        for row, (place, found) in enumerate(zip(places, bars, strict=True)):
            _bar(axes, row, _colour(place), found, edge)
            if untuned.get(row, edge) > edge:
                axes.plot(untuned[row], row, "o", color="white", markeredgecolor=FAINT, markersize=3.2, zorder=1.9)
        style(axes)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.grid(axis="y", visible=False)
        title = "all tasks" if len(chosen) > 1 else LABELS[chosen[0]]
        axes.set_title(title, loc="left", color=INK, fontsize=10.5, fontweight="bold")
        axes.set_xlabel(f"pass@1 minus that of {BASE}", color=FAINT, fontsize=9)
    grid[0].set_yticks(range(len(places)), [place.name for place in places], fontsize=8)
    grid[0].set_ylim(len(places) - 0.4, -0.6)
    for text, place in zip(grid[0].get_yticklabels(), places, strict=True):
        text.set_color(_colour(place) if place.verdict or place.name == BASE else INK)
    _key(figure, bool(before), columns=2 if len(panels) == 1 else 5)
    return figure


def _edge(bars: Sequence[Interval]) -> float:
    """Where a panel ends on the left: a few who fell far behind would leave no room to tell the others apart."""
    lows = sorted(float(found.low) for found in bars)
    return 1.3 * lows[len(lows) // 6]


def _bar(axes: Any, row: int, colour: str, found: Interval, edge: float) -> None:
    """An interval, or, where its middle lies beyond the edge, an arrow with the number."""
    if found.estimate < edge:
        axes.plot(edge, row, "<", color=colour, markersize=4.5)
        axes.text(edge, row, f"   {found.estimate:+.2f}", color=colour, fontsize=7.5, va="center", ha="left")
        return
    axes.plot(
        [max(float(found.low), edge), found.high], [row, row], color=colour, linewidth=1.6, solid_capstyle="round"
    )
    axes.plot(found.estimate, row, "o", color=colour, markersize=4.2)


def _colour(place: Place) -> str:
    return INK if place.name == START else _BASE_COLOUR if place.name == BASE else _COLOURS[place.verdict]


def _key(figure: Figure, before: bool, columns: int) -> None:
    from matplotlib.lines import Line2D

    shown = {
        f"better than {BASE}": _COLOURS["better"],
        f"not told apart from {BASE}": _COLOURS[""],
        f"worse than {BASE}": _COLOURS["worse"],
        f"{BASE}, number for number": _COLOURS["equal"],
    }
    handles = [Line2D([], [], color=colour, marker="o", linewidth=1.6, markersize=4.2) for colour in shown.values()]
    names = list(shown)
    if before:
        handles.append(Line2D([], [], color=FAINT, marker="o", linewidth=0, markerfacecolor="white", markersize=3.4))
        names.append("with one learning rate for all")
    figure.legend(
        handles,
        names,
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )


def _variety(result: Result, places: Sequence[Place]) -> Figure:
    """pass@1 by entropy: a column for each task, above all of them, below those in the middle from near."""
    wanted, (reached, entropy) = whole_tasks(result), (scores(result, metric) for metric in ("pass@1", "entropy"))
    figure = Figure(figsize=(6.6 * len(wanted), 10), layout="constrained", facecolor="white")
    for column, task in zip(figure.subplots(2, len(wanted), squeeze=False).T, wanted, strict=True):
        points = {}
        for place in places:
            across, up = (interquartile([values[place.name][task]]) for values in (entropy, reached))
            colour = _colour(place)
            column[0].plot([across.low, across.high], [up.estimate] * 2, color=colour, linewidth=0.9, alpha=0.5)
            column[0].plot([across.estimate] * 2, [up.low, up.high], color=colour, linewidth=0.9, alpha=0.5)
            for axes in column:
                axes.plot(across.estimate, up.estimate, "o", color=colour, markersize=4.5)
            points[place.name] = (float(across.estimate), float(up.estimate))
        for axes, title in zip(column, (LABELS[task], "the middle from near, without intervals"), strict=True):
            style(axes)
            axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
            axes.set_xlabel("entropy, nats per token", color=FAINT, fontsize=9)
            axes.set_ylabel("pass@1, held out", color=FAINT, fontsize=9)
        (left, right), (low, high) = (_middle(values) for values in zip(*points.values(), strict=True))
        column[1].set(xlim=(left, right), ylim=(low, high))
        near = {name for name, (x, y) in points.items() if left < x < right and low < y < high}
        _label(column[0], points, skipped=near - {BASE, START})
        _label(column[1], {name: points[name] for name in points if name in near})
    return figure


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """A stretch around the median, wide enough for three in four."""
    median = float(np.median(values))
    reach = 1.15 * float(np.quantile(np.abs(np.asarray(values) - median), 0.75))
    return median - reach, median + reach


def _label(axes: Any, points: Mapping[str, tuple[float, float]], skipped: Container[str] = ()) -> None:
    """Names those whose name has room: the ones compared with first, then whoever lies farthest out."""
    axes.figure.draw_without_rendering()
    place = {name: axes.transData.transform(point) for name, point in points.items()}
    middle = np.median(list(place.values()), axis=0)
    order = sorted(place, key=lambda name: (name not in (BASE, START), -float(np.hypot(*(place[name] - middle)))))
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in place.values()]
    scale, frame = axes.figure.dpi / 72, axes.get_window_extent()
    for name in order:
        wide, high = 4.4 * scale * len(name), 9 * scale
        for side, up in ((1, 0), (-1, 0), (1, 0.8), (-1, 0.8), (1, -0.8), (-1, -0.8)):
            near = place[name][0] + 7 * side
            low = place[name][1] - high / 2 + up * high
            box = (min(near, near + side * wide), low, max(near, near + side * wide), low + high)
            inside = box[0] > frame.x0 and box[2] < frame.x1 and box[1] > frame.y0 and box[3] < frame.y1
            if name not in skipped and inside and not any(_meet(box, other) for other in taken):
                at = axes.transData.inverted().transform((near, low + high / 2))
                align = "left" if side > 0 else "right"
                axes.text(*at, name, fontsize=7.5, color=INK, va="center", ha=align, parse_math=False)
                taken.append(box)
                break


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
