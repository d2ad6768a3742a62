"""The study's figures, and the curves that they draw as tables: evaluation returns by environment step."""

from __future__ import annotations

from pathlib import Path

from benchmarks.lab.curves import draw, write_curves
from benchmarks.lab.study import Results
from benchmarks.studies.mujoco.published import PUBLISHED
from benchmarks.studies.mujoco.setting import LABELS, PARTS, Trials


def figures(results: Results, folder: Path) -> dict[str, Path]:
    """Writes the curves of every seed as PART.csv, draws them beside the published points, and says what the figures show."""
    found = {}
    for part, result in results.items():
        write_curves(result, folder / f"{part}.csv")
        path = folder / f"{part}.png"
        beside = part != Trials.part
        there = {run["contender"] for run in result["runs"]}  # colours are shared among those alone
        labels = {name: label for name, label in LABELS.items() if name in there}
        draw(result, labels, path, PUBLISHED if beside else None)
        theirs = ", and published means with standard deviations" if beside else ""
        found[f"Evaluation returns by environment step, {PARTS[part]}{theirs}"] = path
    return found
