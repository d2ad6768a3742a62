"""Tables and figure of `dataset_study.py`, and their place in benchmarks/README.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import BUSY, BenchmarkError
from dataset_claims import (
    AGENTS,
    FAMILIES,
    Point,
    Result,
    bootstrap,
    findings,
    mean_in,
    points,
    rank_correlation,
    region,
    spearman,
)  # fmt: skip
from matplotlib import colormaps
from matplotlib.figure import Figure
from render import publish

from maxent_rl.data.measures.findings import HIGH
from maxent_rl.pictures.style import FAINT, GRID, INK, save
from maxent_rl.reports.statistics import Interval

MARKERS = "<!-- dataset-study:begin -->", "<!-- dataset-study:end -->"
LABELS = {
    "bc": "BC", "bve": "BVE", "mce": "MCE", "dqn": "DQN", "qr-dqn": "QR-DQN", "rem": "REM", "bcq": "BCQ",
    "cql-discrete": "CQL", "crr": "CRR",
}  # fmt: skip
KINDS = {"random": "o", "replay": "s", "mixed": "D", "noisy": "^", "expert": "*"}
"""Kinds of data, and how the figure marks them."""
_REGIONS = {
    "both high": lambda tq, saco: tq and saco,
    "TQ high, SACo low": lambda tq, saco: tq and not saco,
    "TQ low, SACo high": lambda tq, saco: saco and not tq,
    "both low": lambda tq, saco: not (tq or saco),
}
_MAP = colormaps["viridis"]


def render(results: Path, readme: Path, figure: Path) -> None:
    """Writes tables and figure of what has been measured; errors as of `render.publish`."""
    shows = "What each agent reaches, over TQ and SACo of the data"
    publish(results, readme, figure, MARKERS, tables, lambda result, path: draw(points(result), path), shows)


def tables(result: Result) -> str:
    """All tables, and what they were made from."""
    data = points(result)
    if not data:
        raise BenchmarkError("No data set has been learned from by every agent of the study yet.")
    return "\n\n".join(
        [correlations(data), claims(data), regions(data), by_kind(data), datasets(result, data), note(result, data)]
    )


def correlations(data: Sequence[Point]) -> str:
    """Rank correlations of what each agent reaches with the measures of the data."""
    measures = (lambda point: point.tq), (lambda point: point.saco)
    rows = []
    for agent in [agent for agent in AGENTS if agent in data[0].best]:
        statistics = [rank_correlation(agent, measure, which) for which in ("best", "last") for measure in measures]
        rows.append([LABELS[agent], *(show(bootstrap(data, statistic)) for statistic in statistics)])
    head = ["rank correlation of", "best, with TQ", "best, with SACo", "at the end, with TQ", "at the end, with SACo"]
    both = bootstrap(data, lambda rows: spearman([point.tq for point in rows], [point.saco for point in rows]))
    return markdown(head, rows) + f"\n\nTQ and SACo themselves correlate by {show(both)}."


def claims(data: Sequence[Point]) -> str:
    """The three findings: numbers above 0 speak for them."""
    rows = []
    best, last = findings(data, "best"), findings(data, "last")
    for at_best, at_end in zip(best, last, strict=True):
        for index, name in enumerate(at_best.numbers):
            verdicts = [at_best.holds, at_end.holds] if not index else ["", ""]
            numbers = [show(each.numbers[name]) for each in (at_best, at_end)]
            rows.append(["" if index else at_best.claim, name, numbers[0], verdicts[0], numbers[1], verdicts[1]])
    return markdown(["finding", "number", "best", "holds", "at the end", "holds"], rows, texts=2)


def regions(data: Sequence[Point]) -> str:
    """Mean omega by agent and region of the plane."""
    counts = [sum(1 for point in data if wanted(*region(point))) for wanted in _REGIONS.values()]
    heads = [f"{name} ({count})" for name, count in zip(_REGIONS, counts, strict=True)]

    def cells(agent: str) -> list[str]:
        return [show(bootstrap(data, mean_in(lambda point: point.best[agent], wanted))) for wanted in _REGIONS.values()]

    rows = [[LABELS[agent], *cells(agent)] for agent in AGENTS if agent in data[0].best]
    return markdown(["omega where (data sets)", *heads], rows)


def by_kind(data: Sequence[Point]) -> str:
    """Mean omega by environment, kind of data and agent."""
    agents = [agent for agent in AGENTS if agent in data[0].best]
    rows = []
    for env in dict.fromkeys(point.env for point in data):
        for kind in KINDS:
            chosen = [point for point in data if (point.env, point.kind) == (env, kind)]
            if chosen:
                means = [np.mean([point.best[agent] for point in chosen]) for agent in agents]
                measures = [np.mean([point.tq for point in chosen]), np.mean([point.saco for point in chosen])]
                rows.append(
                    [f"{env.removeprefix('maxent/')} {kind}", *(f"{value:.2f}" for value in (*measures, *means))]
                )
    return markdown(["omega", "TQ", "SACo", *(LABELS[agent] for agent in agents)], rows)


def datasets(result: Result, data: Sequence[Point]) -> str:
    """What the behaviour policies were, and which data sets are left out."""
    lines = []
    for env in dict.fromkeys(each["env"] for each in result["datasets"]):
        own = [each for each in result["datasets"] if each["env"] == env and each["kind"] == "replay"]
        best = ", ".join(f"{each['expert_return']:.4g}" for each in own)
        low = np.mean([each["random_return"] for each in own])
        lines.append(f"{env} {best} (uniform actions {low:.4g})")
    left_out = len({each["name"] for each in result["datasets"]}) - len(data)
    text = f"Best evaluation of each online run: {'; '.join(lines)}."
    return text + (f" {left_out} data sets are left out, TQ being undefined or a run missing." if left_out else "")


def note(result: Result, data: Sequence[Point]) -> str:
    """Sizes, settings and time, in one sentence."""
    settings, seeds = result["settings"], max(len(run["returns"]) for run in result["runs"])
    seconds = sum(run["seconds"] for run in result["runs"]) + sum(
        each.get("seconds", 0.0) for each in result["datasets"]
    )
    busy = result.get("busy_before", 0.0)
    beside = f", of which others used {busy:.0%} when it began" if busy > BUSY else ""
    return (
        f"{len(data)} data sets of {settings['size']:,} transitions, {len(AGENTS)} agents, {seeds} seeds each, "
        f"{settings['updates']:,} updates with batches of {settings['batch_size']}; the whole study took "
        f"{seconds / 60:.0f} minutes on a {result['hardware']['summary']}{beside}. High means at "
        f"least {HIGH:g}; brackets are 95 % intervals over behaviour policies."
    )


def show(found: Interval) -> str:
    """`estimate (low to high)`, the estimate alone where there is no interval, a dash where there is nothing."""
    if not np.isfinite(found.estimate):
        return "-"
    if not np.isfinite(found.low):
        return f"{found.estimate:.2f}"
    return f"{found.estimate:.2f} ({found.low:.2f} to {found.high:.2f})"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table whose first columns are texts, the others numbers."""
    dashes = ["---" if index < texts else "---:" for index in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, dashes, *rows))


def draw(data: Sequence[Point], path: Path) -> None:
    """Draws omega of each agent as colour over the TQ-SACo plane, one panel for each."""
    agents = [agent for agent in AGENTS if agent in data[0].best]
    columns = 3
    rows = -(-len(agents) // columns)
    figure = Figure(figsize=(4.1 * columns + 0.9, 3.6 * rows + 0.6), layout="constrained", facecolor="white")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(agents) :]:
        axes.set_visible(False)
    for axes, agent in zip(panels.flat, agents, strict=False):
        marks = _panel(axes, data, agent)
    for axes in panels[-1]:
        axes.set_xlabel("TQ (0: uniform actions, 1: the online run's best)", color=INK, fontsize=9)
    for axes in panels[:, 0]:
        axes.set_ylabel("SACo (1: the replay data)", color=INK, fontsize=9)
    bar = figure.colorbar(marks, ax=panels, shrink=0.6, aspect=30)
    bar.set_label("omega: best evaluation on the scale of TQ", color=INK, fontsize=9)
    bar.outline.set_visible(False)
    handles = [
        panels.flat[0].plot([], [], mark, color=FAINT, linestyle="", markersize=8, label=kind)[0]
        for kind, mark in KINDS.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(KINDS), frameon=False, fontsize=10)
    save(figure, path, dpi=110)


def _panel(axes: Any, data: Sequence[Point], agent: str) -> Any:
    """One agent's panel; gives what the colour bar needs."""
    for kind, mark in KINDS.items():
        own = [point for point in data if point.kind == kind]
        size = 150 if mark == "*" else 65
        marks = axes.scatter(
            [point.tq for point in own], [point.saco for point in own], c=[point.best[agent] for point in own],
            marker=mark, s=size, cmap=_MAP, vmin=0.0, vmax=1.0, edgecolors="white", linewidths=0.7,
        )  # fmt: skip
    axes.axvline(HIGH, color=GRID, linewidth=1.2, zorder=0)
    axes.axhline(HIGH, color=GRID, linewidth=1.2, zorder=0)
    family = next(name for name, agents in FAMILIES.items() if agent in agents)
    axes.set_title(f"{LABELS[agent]}  ({family})", loc="left", color=INK, fontsize=11, fontweight="bold")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=FAINT, labelsize=9)
    return marks
