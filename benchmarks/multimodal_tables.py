"""Tables of the multimodal studies, as Markdown, and their place in benchmarks/README.md."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from common import BenchmarkError, show_number
from multimodal_study import Result, Run, mean_and_error, runs_of, show_mean
from render import insert

Cell = Callable[[Sequence[Run]], str]
"""Makes a cell of a table of a contender's runs."""

MARKERS = "<!-- multimodal:begin -->", "<!-- multimodal:end -->"
NAMES = ("multimodal-bandits", "multimodal-multigoal", "multimodal-mujoco")
_LABELS = {"sac": "SAC", "uniform": "uniform actions"}
_WHAT = {"maxent/MultiGoal": "goals"}


def render(
    results: Path,
    readme: Path,
    figure: Path,
    show: Sequence[str],
    curves: Sequence[str],
    order: Sequence[str],
) -> None:
    """Writes tables and figure of what has been measured.

    Args:
      results: folder with the results.
      readme: file with the markers.
      figure: PNG to write.
      show: contenders whose samples are drawn.
      curves: contenders whose learning curves are drawn.
      order: of all contenders.

    Raises:
      BenchmarkError: nothing has been measured, or the markers are missing.
    """
    found = load(results)
    for name in NAMES:
        if name not in found:
            print(f"Left out, not measured yet: {name}", file=sys.stderr)
    if not found:
        raise BenchmarkError(f"There are no results in {results}: run a study first.")
    text = "\n\n".join(table(result, order) for result in found.values())
    print(text)
    from multimodal_figure import draw

    draw(found, figure, show, curves, order)
    print(f"Written: {figure}", file=sys.stderr)
    if not insert(readme, text, MARKERS):
        raise BenchmarkError(f"{readme} has no lines {MARKERS[0]} and {MARKERS[1]} to write the tables between.")
    print(f"Written: {readme}", file=sys.stderr)


def load(folder: Path) -> dict[str, Result]:
    """The results of the studies that were run, by name."""
    paths = {name: folder / f"{name}.json" for name in NAMES}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def table(result: Result, order: Sequence[str]) -> str:
    """A table for each environment, with the seeds and the machine below; contenders in the given order."""
    columns = _MUJOCO if result["benchmark"] == NAMES[2] else _TOYS
    parts, failed = [], []
    for env in dict.fromkeys(run["env"] for run in result["runs"]):
        named = {name.replace("optima", _WHAT.get(env, "optima")): cell for name, cell in columns.items()}
        rows, without = rows_of(result, env, named, {contender: label(contender) for contender in order})
        parts.append(rows)
        failed += [f"{name} on {env}" for name in without]
    return "\n\n".join([*parts, note(result, failed)])


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


def note(result: Result, failed: Sequence[str]) -> str:
    """The line below a table: seeds, steps and machine, what failed, and whether anything is missing."""
    seeds = sorted({len(runs_of(result["runs"], run["env"], run["contender"])) for run in result["runs"]})
    steps = sorted({found for run in result["runs"] for found in _steps(run)})
    machines = ", ".join(dict.fromkeys(run["machine"] for run in result["runs"]))
    text = f"Mean ± standard error of {_between(seeds)} seeds, {_between(steps)} steps each; {machines}."
    text += f" Failed: {', '.join(failed)}." if failed else ""
    return text + ("" if result["complete"] else " Not complete.")


def label(contender: str) -> str:
    """A contender as people read it."""
    if contender in _LABELS:
        return _LABELS[contender]
    name = contender.replace("straight_through", "straight-through").replace("-mixture", ", mixture density")
    return re.sub(r"-k(\d+)$", r", K = \1", name)


def mean_of(metric: str) -> Cell:
    """A cell: mean and standard error of a metric over the runs that have it."""
    return lambda runs: show_mean([run["values"][metric] for run in runs if metric in run["values"]])


def _covered(runs: Sequence[Run]) -> str:
    """`mean of all (of each seed)`."""
    counts = [int(run["values"]["covered"]) for run in runs]
    mean = mean_and_error(counts)[0]
    return f"{mean:.3g} of {len(runs[0]['shares'])} ({' '.join(map(str, counts))})"


def _shares(runs: Sequence[Run]) -> str:
    """Mean share at each optimum."""
    each = zip(*(run["shares"] for run in runs), strict=True)
    return " ".join(f"{sum(shares) / len(runs):.0%}" for shares in each)


def _somewhere(runs: Sequence[Run]) -> str:
    """Mean share at any optimum."""
    return f"{mean_and_error([run['values']['somewhere'] for run in runs])[0]:.0%}"


def _collapsed(runs: Sequence[Run]) -> str:
    flags = [run["values"]["collapsed"] for run in runs if "collapsed" in run["values"]]
    return f"{sum(flags):.0f} of {len(flags)}" if flags else ""


_TOYS: dict[str, Cell] = {
    "optima covered (each seed)": _covered,
    "reached at all": mean_of("once"),
    "share at each": _shares,
    "at any": _somewhere,
    "return": mean_of("return"),
    "return of the mode": mean_of("return_mode"),
    "entropy": mean_of("entropy"),
    "router entropy": mean_of("router_entropy"),
    "collapsed": _collapsed,
    "steps/s": mean_of("steps_per_second"),
}
_MUJOCO: dict[str, Cell] = {
    "final return": mean_of("final"),
    "best return": mean_of("best"),
    "mean of all evaluations": mean_of("mean"),
    "entropy": mean_of("entropy"),
    "router entropy": mean_of("router_entropy"),
    "experts apart": mean_of("mean_distance"),
    "collapsed": _collapsed,
    "steps/s": mean_of("steps_per_second"),
}


def _steps(run: Run) -> list[int]:
    found = re.findall(r"--total-steps (\d+)", run["settings"]["flags"])
    return [int(found[-1])] if found else []


def _between(values: Sequence[int]) -> str:
    if not values:
        return "?"
    shown = [show_number(value) for value in values]
    return shown[0] if len(values) == 1 else f"{shown[0]} to {shown[-1]}"
