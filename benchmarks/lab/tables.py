"""Tables of studies, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from benchmarks.lab.measure import show_number
from benchmarks.lab.statistics import show_interquartile, show_mean
from benchmarks.lab.study import Result, Run, runs_of

Cell = Callable[[Sequence[Run]], str]
"""Makes a cell of a table of a contender's runs."""


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table whose first columns are texts, the others numbers."""
    dashes = ["---" if index < texts else "---:" for index in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, dashes, *rows))


def rows_of(
    result: Result, env: str, columns: Mapping[str, Cell], labels: Mapping[str, str], corner: str | None = None
) -> tuple[str, list[str]]:
    """The table of an environment.

    Args:
      result: of a study.
      env: the environment.
      columns: by title, what makes a cell of a contender's runs.
      labels: of all contenders, in their order.
      corner: what stands above them; None for the environment.

    Returns:
      (the table without a note, labels of the contenders that failed).
    """
    lines = [f"| {' | '.join([env if corner is None else corner, *columns])} |", "| --- |" + " ---: |" * len(columns)]
    failed = []
    for contender, shown in labels.items():
        found = runs_of(result["runs"], env, contender)
        runs = [run for run in found if "error" not in run]
        failed += [shown] if found and not runs else []
        lines += [f"| {' | '.join([shown, *(cell(runs) for cell in columns.values())])} |"] if runs else []
    return "\n".join(lines), failed


def interquartile_table(corner: str, scores: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> str:
    """Interquartile means with their 95 % intervals; empty without rows.

    Args:
      corner: what stands above the rows' names: what the numbers are.
      scores: by row and column, for each task the scores of its seeds.
    """
    columns = list(dict.fromkeys(column for row in scores.values() for column in row))
    rows = [[name, *(show_interquartile(row.get(column, [])) for column in columns)] for name, row in scores.items()]
    if not rows:
        return ""
    return (
        f"{markdown([f'{corner}: interquartile mean', *columns], rows)}\n\nIn brackets 95 % intervals from the stratified "
        "bootstrap over seeds; of fewer than four runs the interquartile mean is the mean."
    )


def note(result: Result, failed: Sequence[str]) -> str:
    """The line below a table: seeds, steps and machine, what failed, and whether anything is missing."""
    seeds = sorted({len(runs_of(result["runs"], run["env"], run["contender"])) for run in result["runs"]})
    steps = sorted({found for run in result["runs"] for found in _steps(run)})
    machines = ", ".join(dict.fromkeys(run["machine"] for run in result["runs"]))
    text = f"Mean ± standard error of {_between(seeds)} seeds, {_between(steps)} steps each; {machines}."
    text += f" Failed: {', '.join(failed)}." if failed else ""
    return text + ("" if result["complete"] else " Not complete.")


def mean_of(metric: str) -> Cell:
    """A cell: mean and standard error of a metric over the runs that have it."""
    return lambda runs: show_mean([run["values"][metric] for run in runs if metric in run["values"]])


def _steps(run: Run) -> list[int]:
    found = re.findall(r"--total-steps (\d+)", run["settings"]["flags"])
    return [int(found[-1])] if found else []


def _between(values: Sequence[int]) -> str:
    if not values:
        return "?"
    shown = [show_number(value) for value in values]
    return shown[0] if len(values) == 1 else f"{shown[0]} to {shown[-1]}"
