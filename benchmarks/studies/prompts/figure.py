"""The figures: how what was measured changed over the iterations, means over seeds with a band of a standard error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.lab.publish import figure_of_each_part
from benchmarks.lab.study import Result, Results
from benchmarks.studies.prompts.setting import LABELS, Long, Synthesis, Templates
from benchmarks.studies.prompts.tables import COLUMNS, runs_by_contender
from maxent_rl.pictures.style import colours, save, style

_PANELS = {
    Templates.part: ("posed", "entropy", "distinct", "rollout/mixed_groups"),
    Synthesis.part: (
        "posed, held out",
        "harder",
        "rollout/mixed_groups",
        "prompts/described_difficulty",
        "prompts/well_formed",
    ),
}
_PANELS[Long.part] = _PANELS[Templates.part]
_PICTURES = {
    Templates.part: "Right answers, entropy and variety over the iterations, with one template and with several",
    Long.part: "The same with one template and eight, four times as long",
    Synthesis.part: "Right answers, groups that teach and what is described over the iterations",
}


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Draws a figure for each part, and says what it shows."""
    return figure_of_each_part(results, folder, _PICTURES, draw)


def draw(part: str, result: Result, path: Path) -> None:
    """Draws the figure of a part to a PNG."""
    by_contender, panels = runs_by_contender(result), _PANELS[part]
    figure = Figure(figsize=(3.4 * len(panels), 3.4), layout="constrained", facecolor="white")
    axes = np.atleast_1d(figure.subplots(1, len(panels)))
    palette = dict(zip(by_contender, colours(len(by_contender)), strict=True))
    for panel, metric in zip(axes, panels, strict=True):
        for name, runs in by_contender.items():
            courses = [run["course"][metric] for run in runs.values() if metric in run["course"]]
            if not courses:
                continue
            values = np.array([[float(value) for value in text.split()] for text in courses])
            settings = next(iter(runs.values()))["settings"]
            place = np.linspace(0, settings["iterations"], values.shape[1])
            mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
            panel.plot(place, mean, color=palette[name], label=LABELS[name])
            panel.fill_between(place, mean - error, mean + error, color=palette[name], alpha=0.15, linewidth=0)
        panel.set_title({**COLUMNS[part], "distinct": "different of 8"}[metric], loc="left", fontsize=10)
        panel.set_xlabel("iterations", fontsize=9)
        style(panel)
    axes[0].legend(frameon=False, fontsize=8)
    save(figure, path, dpi=110)
