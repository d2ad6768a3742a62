"""Compares runs: `python experiments/report.py runs`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console

from maxent_rl.errors import InvalidSettingError, run_command
from maxent_rl.runs.flags import read_flags
from maxent_rl.runs.values import read_value
from maxent_rl.settings import Count, NonNegative

if TYPE_CHECKING:
    from maxent_rl.reports.report import Report


@dataclasses.dataclass(frozen=True)
class Command:
    """Compares all runs in and below some folders: one page to read, tables and figures."""

    paths: tyro.conf.Positional[tuple[Path, ...]] = (Path("runs"),)
    """Folders of runs, or folders that hold such ones at any depth."""
    output: Path | None = None
    """Folder of the report; None for report/ in PATHS, or in the folder that holds all of several."""
    metric: str = "return_mean"
    """Column of eval.csv to compare; more is better."""
    at: str = "final"
    """Which evaluation counts: final, best (each seed's own), or a number of environment steps."""
    bootstrap: Count = 2000
    """Resamples of the stratified bootstrap."""
    seed: NonNegative = 0
    """Seed of its random numbers."""
    normalize_by: Path | None = None
    """JSON file with the returns that count as 0 and 1: {"Pendulum-v1": [-1500, -150], ...}; None takes the lowest and
    the highest evaluation of the compared runs."""


def main(arguments: list[str]) -> int:
    """Parses the command line, writes the report, and turns errors into one sentence; returns the exit status."""
    return run_command(_main, arguments, "Stopped before the report was complete.")


def _main(arguments: list[str]) -> int:
    command = read_flags(Command, arguments, __doc__)
    at = _when(command.at)

    # On standard error, so that standard output holds the result alone; shows nothing where that is no terminal.
    with Console(stderr=True).status("Reading runs, resampling, drawing"):
        from maxent_rl.reports.report import write_report
        from maxent_rl.reports.results import Options

        options = Options(metric=command.metric, at=at, resamples=command.bootstrap, seed=command.seed)
        report = write_report(command.paths, command.output, options=options, normalize_by=command.normalize_by)
    _show(report)
    return 0


def _when(text: str) -> str | int:
    if text in ("final", "best"):
        return text
    step = read_value(text.replace("_", "").replace(",", ""), int)
    if not isinstance(step, int) or step < 0:
        raise InvalidSettingError(f"--at must be final, best or a number of environment steps, got {text!r}.")
    return step


def _show(report: Report) -> None:
    print(report.markdown)
    for file in report.files:
        print(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
