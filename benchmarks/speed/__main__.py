"""Renders what was measured: tables into README.md here, and results/benchmarks.png: `python -m benchmarks.speed`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import tyro

from benchmarks.lab.measure import SPEED, BenchmarkError, command_line
from benchmarks.lab.publish import publish
from benchmarks.speed import accelerator_figure
from benchmarks.speed.figure import draw
from benchmarks.speed.tables import ACCELERATOR, load, tables


@dataclasses.dataclass(frozen=True)
class Render:
    """Flags of this command."""

    results: Path = SPEED / "results"
    """Folder with the results."""
    readme: Path = SPEED / "README.md"
    """File with a section `## Results`."""
    figure: Path = SPEED / "results" / "benchmarks.png"
    """Figure to write."""


def main() -> int:
    """Renders; returns the exit status."""
    options = tyro.cli(Render, description=__doc__)
    results, missing = load(options.results)
    for name in missing:
        print(f"Left out, not measured yet: {name}", file=sys.stderr)
    if not results:
        raise BenchmarkError(f"There are no results in {options.results}: run a benchmark first.")
    text = tables(results)
    if draw(results, options.figure):
        print(f"Written: {options.figure}", file=sys.stderr)
        text += f"\n\n![The measurements of the table, and returns over wall-clock time](results/{options.figure.name})"
    drawing = options.figure.with_name(f"{ACCELERATOR}.png")
    if ACCELERATOR in results and accelerator_figure.draw(results[ACCELERATOR], drawing):
        print(f"Written: {drawing}", file=sys.stderr)
        text += f"\n\n![What an accelerator does](results/{drawing.name})"
    print(text)
    publish(options.readme, text)
    print(f"Written: {options.readme}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    command_line(main)
