"""The study's tables: returns by method and share of wrong labels."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.lab.statistics import mean_and_error, show_mean
from benchmarks.lab.study import Result, Results, Run, runs_of
from benchmarks.lab.tables import interquartile_table, note
from benchmarks.studies.preference_learning.setting import ENV, FLIPS, LABELS, METHODS, REFERENCES, contender


def tables(results: Results) -> str:
    """Returns, and their interquartile means."""
    result = results["preference_learning"]
    return "\n\n".join(part for part in (table(result), interquartile_returns(result)) if part)


def table(result: Result) -> str:
    """Returns by method and share of wrong labels, each with its place between uniform actions (0) and the better half (1)."""
    flips = flips_of(result)
    heads = [f"return, {flip:.0%} of the labels wrong" for flip in flips]
    lines = [f"| {ENV} | {' | '.join([*heads, 'held-out accuracy', 'log-probability'])} |"]
    lines += ["| --- |" + " ---: |" * (len(heads) + 2)]
    failed = []
    for name in (*REFERENCES, *METHODS):
        by_flip = [runs_with(result, name, flip) for flip in flips]
        if not any(by_flip):
            failed += (
                [LABELS[name]] if any(runs_of(result["runs"], ENV, contender(name, flip)) for flip in flips) else []
            )
            continue
        once = len({contender(name, flip) for flip in flips}) == 1
        shown = [_cell(result, runs) if not (once and index) else "" for index, runs in enumerate(by_flip)]
        more = [show_mean(values_of(by_flip[0], metric)) for metric in ("held_out_accuracy", "held_out_log_prob")]
        lines.append(f"| {' | '.join([LABELS[name], *shown, *more])} |")
    return "\n".join([*lines, "", note({**result, "runs": _learned(result)}, failed)])


def interquartile_returns(result: Result) -> str:
    """Interquartile means of the returns of those who learn, by share of wrong labels; cloning reads none and stands once."""
    scores = {}
    for name in METHODS:
        flips = flips_of(result)[:1] if contender(name, 0.0) == name else flips_of(result)
        found = {
            f"{flip:.0%} of the labels wrong": [values_of(runs_with(result, name, flip), "return")] for flip in flips
        }
        if any(seeds for tasks in found.values() for seeds in tasks):
            scores[LABELS[name]] = found
    return interquartile_table("Return", scores)


def _cell(result: Result, runs: Sequence[Run]) -> str:
    values = values_of(runs, "return")
    if not values:
        return ""
    share = scaled(result, mean_and_error(values)[0])
    return show_mean(values) if share is None else f"{show_mean(values)} ({share:.0%})"


def scaled(result: Result, value: float) -> float | None:
    """A return on the scale on which uniform actions are 0 and the better half of the data is 1."""
    low, high = (values_of(runs_with(result, name, 0.0), "return") for name in ("uniform", "better half"))
    return (value - low[0]) / (high[0] - low[0]) if low and high and high[0] != low[0] else None


def runs_with(result: Result, name: str, flip: float) -> list[Run]:
    """The runs of a method on a share of wrong labels that did not fail."""
    return [run for run in runs_of(result["runs"], ENV, contender(name, flip)) if "error" not in run]


def values_of(runs: Sequence[Run], metric: str) -> list[float]:
    """A metric of the seeds that have it."""
    return [run["values"][metric] for run in runs if metric in run["values"]]


def _learned(result: Result) -> list[Run]:
    return [run for run in result["runs"] if run["contender"] not in REFERENCES] or result["runs"]


def flips_of(result: Result) -> list[float]:
    """Shares of wrong labels that were measured."""
    found = {run["settings"].get("flip") for run in result["runs"]}
    return sorted(flip for flip in found if flip is not None) or [FLIPS[0]]
