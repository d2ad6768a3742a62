"""The study's tables: reward, variety and entropy under each objective, and how well targets are held."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.lab.measure import show_number
from benchmarks.lab.statistics import mean_and_error
from benchmarks.lab.study import Result, Results, Run
from benchmarks.lab.tables import Cell, interquartile_table, mean_of, note, rows_of
from benchmarks.studies.entropy_collapse.setting import Objectives, Targets, label, ordered, target


def tables(results: Results) -> str:
    """The table of each part that was measured, each with interquartile means."""
    parts = [
        part for name, result in results.items() for part in (table(name, result), interquartile_shares(name, result))
    ]
    return "\n\n".join(part for part in parts if part)


def table(part: str, result: Result) -> str:
    """The table of a part, with the seeds and the machine below."""
    columns = _COLUMNS[part]
    labels = {name: label(name) for name in ordered(result["runs"])}
    parts, failed = [], []
    for env in dict.fromkeys(run["env"] for run in result["runs"]):
        rows, without = rows_of(result, env, columns, labels)
        parts.append(rows)
        failed += without
    return "\n\n".join([*parts, note(result, failed)])


def interquartile_shares(part: str, result: Result) -> str:
    """Interquartile means of the shares of right answers that a part's table has; empty where nothing was measured."""
    titles, scores = [title for title in _COLUMNS[part] if title in _SHARES], {}
    for name in ordered(result["runs"]):
        runs = [run for run in result["runs"] if run["contender"] == name]
        if all("error" not in run for run in runs):
            scores[label(name)] = {
                title: [[run["values"][title] for run in runs if title in run["values"]]] for title in titles
            }
    return interquartile_table("Share of right answers", scores)


def distance(run: Run) -> float | None:
    """How far a run's entropy was from its target, as a share of the target."""
    wanted, found = target(run["contender"]), run["values"].get("entropy_half")
    return None if wanted is None or found is None else abs(found - wanted) / wanted


def _distance(runs: Sequence[Run]) -> str:
    """`mean (largest)` over seeds."""
    found = [each for run in runs if (each := distance(run)) is not None]
    return f"{mean_and_error(found)[0]:.1%} ({max(found):.1%})" if found else ""


def _target(runs: Sequence[Run]) -> str:
    wanted = target(runs[0]["contender"])
    return "" if wanted is None else show_number(wanted)


def _each(metric: str) -> Cell:
    """`mean ± standard error (of each seed)`."""

    def cell(runs: Sequence[Run]) -> str:
        values = [show_number(run["values"][metric]) for run in runs if metric in run["values"]]
        return f"{mean_of(metric)(runs)} ({' '.join(values)})" if values else ""

    return cell


_COLUMNS: dict[str, dict[str, Cell]] = {
    Objectives.part: {
        "reward": mean_of("reward"),
        "greedy": mean_of("greedy"),
        "pass@1": mean_of("pass@1"),
        "pass@8": mean_of("pass@8"),
        "right answers": mean_of("distinct"),
        "entropy, first tenth": mean_of("entropy_first"),
        "entropy, last tenth": mean_of("entropy_last"),
        "steps/s": mean_of("steps_per_second"),
    },
    Targets.part: {
        "target": _target,
        "entropy (each seed)": _each("entropy_half"),
        "distance (largest)": _distance,
        "reward": mean_of("reward"),
        "pass@1": mean_of("pass@1"),
        "pass@8": mean_of("pass@8"),
    },
}
_SHARES = ("reward", "greedy", "pass@1", "pass@8")
