"""The study's figure: a course for each paper, in the number that its claim is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.lab.study import Result, Results, runs_of
from benchmarks.studies.credit.setting import QUESTIONS
from maxent_rl.pictures.style import INK, colours, heading, save, style

# Question, course, contenders, title, what is drawn.
_PANELS = [
    ("hapo", "fork_entropy", ("dapo", "hapo", "hapo-one-width"), "HAPO", "entropy of forks, nats"),
    ("progrpo", "entropy", ("grpo", "grpo-bonus", "progrpo"), "ProGRPO", "entropy, nats; many right answers"),
    ("bapo-8", "entropy", ("clip", "bapo", "bapo-gradient"), "BAPO", "entropy, nats; batches replayed 8 times"),
    ("ares", "length_0", ("grpo", "ares", "ares-released"), "ARES, easy", "symbols of a response"),
    ("ares", "length_3", ("grpo", "ares", "ares-released"), "ARES, hard", "symbols of a response"),
    ("g2rpo", "gradient_ratio", ("deviation", "none", "gaussian"), "G2RPO", "gradient of task 2 over that of task 1"),
    ("riskpo", "entropy", ("grpo", "riskpo", "riskpo-released"), "RiskPO", "entropy, nats"),
    ("copo", "learning", ("grpo", "copo", "copo-released"), "COPO", "share of prompts with a gradient"),
    ("empo", "reward", ("grpo", "empo", "voting"), "EMPO", "share of right answers"),
]


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Draws the figure, and says what it shows."""
    path = folder / "credit.png"
    draw(results["credit"], path)
    return {"What each paper's claim is about, over iterations": path}


def draw(result: Result, path: Path) -> None:
    """Draws a panel for each claim: means over seeds, and their spread."""
    figure = Figure(figsize=(13.0, 10.5), layout="constrained", facecolor="white")
    for axes, panel in zip(figure.subplots(3, 3).flat, _PANELS, strict=True):
        _panel(axes, result, *panel)
    save(figure, path, dpi=110)


def _panel(
    axes: Any, result: Result, question: str, course: str, contenders: tuple[str, ...], title: str, what: str
) -> None:
    iterations = QUESTIONS[question].training.iterations
    for contender, colour in zip(contenders, colours(len(contenders)), strict=True):
        runs = [run for run in runs_of(result["runs"], question, contender) if course in run.get("course", {})]
        if not runs:
            continue
        drawn = np.array([[float(value) for value in run["course"][course].split()] for run in runs])
        places = (np.arange(drawn.shape[1]) + 0.5) * iterations / drawn.shape[1]
        mean, spread = drawn.mean(axis=0), drawn.std(axis=0)
        axes.plot(places, mean, color=colour, linewidth=2, label=contender)
        axes.fill_between(places, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
    style(axes)
    if course == "gradient_ratio":
        axes.set_yscale("log")
    axes.set_xlabel("iterations", color=INK, fontsize=9)
    heading(axes, title, what)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
    else:
        axes.text(0.5, 0.5, "not measured yet", transform=axes.transAxes, ha="center", color=INK)
