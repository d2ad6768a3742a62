"""The study's tables: returns of each contender on each environment, at equal steps."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.lab.measure import show_number
from benchmarks.lab.study import Result, Results, Run
from benchmarks.lab.tables import Cell, mean_of, note, rows_of
from benchmarks.studies.playground.setting import LABELS, PARTS


def tables(results: Results) -> str:
    """All tables of the parts that were measured."""
    return "\n\n".join(f"### {PARTS[part]}\n\n{_table(result)}" for part, result in results.items())


def _table(result: Result) -> str:
    parts, failed = [], []
    for env in _envs(result):
        rows, without = rows_of(result, env, _COLUMNS, LABELS)
        parts.append(rows)
        failed += [f"{name} on {env}" for name in without]
    return "\n\n".join([*parts, f"{note(result, failed)} The return is the mean of the last three evaluations."])


def _envs(result: Result) -> list[str]:
    return list(dict.fromkeys(run["env"] for run in result["runs"]))


def _each(runs: Sequence[Run]) -> str:
    return " ".join(show_number(run["values"]["return"]) for run in runs)


def _speed(runs: Sequence[Run]) -> str:
    """Of one program: all seeds have the same."""
    return show_number(runs[0]["values"]["steps_per_second"])


_COLUMNS: dict[str, Cell] = {
    "return": mean_of("return"),
    "each seed": _each,
    "halfway": mean_of("halfway"),
    "mean of all evaluations": mean_of("mean"),
    "steps/s of each seed": _speed,
}
