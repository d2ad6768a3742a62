"""The figures: right answers, calls and entropy over the iterations, and whose forks they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.lab.claims import by_seed, course
from benchmarks.lab.publish import figure_of_each_part
from benchmarks.lab.study import Result, Results
from benchmarks.studies.conversations.setting import LABELS, Balance, Corridor, Forked, Imitation, Modulation
from maxent_rl.pictures.style import INK, colours, heading, save, style

_RIGHT = ("pass@1", "Right answers", "held-out prompts, share of samples")
_ENTROPY = ("entropy", "Entropy", "nats per token")
_COURSES = {
    Modulation.part: [
        _RIGHT,
        ("calls", "Calls", "of the tool, per conversation"),
        ("gradient of unsure turns", "Unsure turns", "their share of the gradient's length"),
    ],
    Corridor.part: [_RIGHT, _ENTROPY, ("entropy of the batch", "Entropy of the batches", "nats per token, as drawn")],
    Imitation.part: [_RIGHT, ("calls", "Calls", "of the tool, per conversation"), _ENTROPY],
    Balance.part: [_RIGHT, _ENTROPY, ("rising beyond the clip", "Beyond the clip", "share of tokens that rise")],
}
_PICTURES = {
    Modulation.part: "Right answers, calls and the gradient's share of unsure turns, over the iterations of GRPO and EMPG",
    Corridor.part: "Right answers and entropy over the iterations, with an entropy bonus and with corridors around it",
    Balance.part: "Right answers, entropy and tokens beyond the clip over the iterations, with clips of and without gradient",
    Imitation.part: "Right answers, calls and entropy over the iterations, with rewards for calls and imitation of wins",
    Forked.part: "Share of forks on the three conversations of a prompt that are most forked from, and how many differ",
}


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Draws a figure for each part, and says what it shows."""
    return figure_of_each_part(results, folder, _PICTURES, draw)


def draw(part: str, result: Result, path: Path) -> None:
    """Draws the figure of a part to a PNG: means over seeds and a standard error on either side, or each seed."""
    panels = _COURSES.get(part) or [
        (name, name.capitalize(), "each seed") for name in ("share of the top three", "different")
    ]
    figure = Figure(figsize=(4.3 * len(panels), 4.0), layout="constrained", facecolor="white")
    axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for each, (name, title, what) in zip(axes, panels, strict=True):
        (_over_iterations if part in _COURSES else _each_seed)(each, result, part, name)
        heading(each, title, what)
        style(each)
    if part in _COURSES:
        axes[0].legend(frameon=False, fontsize=9)
    save(figure, path, dpi=110)


def _over_iterations(axes: Any, result: Result, part: str, metric: str) -> None:
    for name, colour in _palette(result, part).items():
        runs = list(by_seed(result, part, name).values())
        values = np.array([course(run, metric) for run in runs])
        at = np.linspace(0, runs[0]["settings"]["iterations"], values.shape[1])
        mean, error = values.mean(axis=0), values.std(axis=0) / np.sqrt(max(1, len(values) - 1))
        axes.plot(at, mean, color=colour, linewidth=2, label=LABELS[part][name])
        axes.fill_between(at, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("iterations", color=INK, fontsize=9)


def _each_seed(axes: Any, result: Result, part: str, metric: str) -> None:
    palette = _palette(result, part)
    for place, (name, colour) in enumerate(palette.items()):
        values = [run["values"][metric] for run in by_seed(result, part, name).values()]
        axes.plot([place] * len(values), values, "o", color=colour, alpha=0.6)
        axes.plot(place, np.mean(values), "_", color=colour, markersize=30, markeredgewidth=3)
    axes.set_xticks(range(len(palette)), [LABELS[part][name] for name in palette], fontsize=9)
    axes.margins(x=0.2)


def _palette(result: Result, part: str) -> dict[str, str]:
    found = [name for name in LABELS[part] if by_seed(result, part, name)]
    return dict(zip(found, colours(len(found)), strict=True))
