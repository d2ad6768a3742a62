"""The figures: courses over the iterations, and right answers over the divergence from where a policy began."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.lab.claims import by_seed, course, places
from benchmarks.lab.publish import figure_of_each_part
from benchmarks.lab.study import Result, Results
from benchmarks.studies.teachers.setting import LABELS, Routing, Soups, WarmStarts
from maxent_rl.pictures.style import INK, colours, heading, save, style

_COURSES = {
    Routing.part: [
        ("pass@1", "Right answers", "held-out prompts, share of samples"),
        ("entropy", "Entropy", "nats per token"),
        ("likely, told", "The teacher's worth", "probability of the right answer when told it"),
        ("routed", "Routed", "share of tokens that learn from the teacher"),
    ],
    WarmStarts.part: [
        ("pass@1", "Right answers", "held-out prompts, share of samples"),
        ("pass@8", "Right among eight", "held-out prompts"),
        ("entropy", "Entropy", "nats per token"),
    ],
}
_PICTURES = {
    Routing.part: "Right answers, entropy and what the teacher is worth, over the iterations of GRPO, SDPO and SRPO",
    WarmStarts.part: "Right answers and entropy over the iterations of GRPO after SFT and after Entropy-SFT",
    Soups.part: "Right answers over the divergence from the policy's start, with it and with a soup as the reference",
}


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Draws a figure for each part, and says what it shows."""
    return figure_of_each_part(results, folder, _PICTURES, draw)


def draw(part: str, result: Result, path: Path) -> None:
    """Draws the figure of a part to a PNG: means over seeds, and a standard error on either side."""
    panels = _COURSES.get(part) or [
        (place, f"Divergence costs {place.rpartition(' ')[2]}", "") for place in places(result)
    ]
    figure = Figure(figsize=(4.3 * len(panels), 4.0), layout="constrained", facecolor="white")
    axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for each, (name, title, what) in zip(axes, panels, strict=True):
        if part in _COURSES:
            _over_iterations(each, result, part, name)
            heading(each, title, what)
        else:
            _over_divergence(each, result, name)
            heading(each, title, "right answers; thin: each seed")
        style(each)
    axes[0].legend(frameon=False, fontsize=9)
    save(figure, path, dpi=110)


def _over_iterations(axes: Any, result: Result, place: str, metric: str) -> None:
    for name, colour in _palette(result).items():
        runs = [run for run in by_seed(result, place, name).values() if metric in run["course"]]
        if not runs:
            continue
        values = np.array([course(run, metric) for run in runs])
        at = np.linspace(0, runs[0]["settings"]["iterations"], values.shape[1])
        mean, error = values.mean(axis=0), values.std(axis=0) / np.sqrt(max(1, len(values) - 1))
        axes.plot(at, mean, color=colour, linewidth=2, label=LABELS[name])
        axes.fill_between(at, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("iterations", color=INK, fontsize=9)


def _over_divergence(axes: Any, result: Result, place: str) -> None:
    for name, colour in _palette(result).items():
        runs = list(by_seed(result, place, name).values())
        if not runs:
            continue
        far, right = (np.array([course(run, metric) for run in runs]) for metric in ("divergence from start", "pass@1"))
        for one, other in zip(far, right, strict=True):
            axes.plot(one, other, color=colour, linewidth=0.7, alpha=0.35)
        axes.plot(
            far.mean(axis=0),
            right.mean(axis=0),
            color=colour,
            linewidth=2,
            marker="o",
            markersize=3,
            label=LABELS[name],
        )
    axes.set_xlabel("divergence from the start, nats a response", color=INK, fontsize=9)


def _palette(result: Result) -> dict[str, str]:
    found = [name for name in LABELS if any(run["contender"] == name for run in result["runs"])]
    return dict(zip(found, colours(len(found)), strict=True))
