"""The study's tables: scores by method and data set."""

from __future__ import annotations

from benchmarks.lab.statistics import show_mean
from benchmarks.lab.study import Result, Results, Run, runs_of
from benchmarks.lab.tables import interquartile_table
from benchmarks.studies.offline_control.setting import LABELS, METHODS, REFERENCES


def tables(results: Results) -> str:
    """Scores, and their interquartile means."""
    result = results["offline_control"]
    return "\n\n".join(part for part in (table(result), interquartile_scores(result)) if part)


def table(result: Result) -> str:
    """Normalised scores, one line for each data set, and the returns that they are made with."""
    names = methods_of(result)
    heads = ["Data set", *(LABELS.get(name, name) for name in names), "the data", "random", "expert"]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for where in places_of(result):
        cells = [show_mean(scores(result, where, name)) or _failed(result, where, name) for name in names]
        cells.append(show_mean(scores(result, where, "data")))
        cells += [show_mean(_returns(result, where, name)) for name in ("random", "expert")]
        lines.append("| " + " | ".join([where, *cells]) + " |")
    return "\n".join([*lines, "", _note(result)])


def interquartile_scores(result: Result) -> str:
    """Interquartile means of the scores, by data set and over all of them."""
    found = {}
    for name in methods_of(result):
        each = {where: [scores(result, where, name)] for where in places_of(result)}
        found[LABELS.get(name, name)] = each | {"all": [seeds for tasks in each.values() for seeds in tasks]}
    return interquartile_table("Score", found)


def scores(result: Result, where: str, name: str) -> list[float]:
    """Each seed's 100 * (return - random) / (expert - random)."""
    return [score(result, where, value) for value in _returns(result, where, name)]


def score(result: Result, where: str, value: float) -> float:
    """A return on the scale on which uniform actions are 0 and the expert is 100; NaN where those are not known."""
    low, high = (_returns(result, where, name) for name in ("random", "expert"))
    return 100.0 * (value - low[0]) / (high[0] - low[0]) if low and high and high[0] != low[0] else float("nan")


def _note(result: Result) -> str:
    settings = result["settings"]
    seeds = max(
        (len(runs_at(result, where, name)) for where in places_of(result) for name in methods_of(result)), default=0
    )
    cql = settings["cql_updates"] or settings["updates"]
    layers = " x ".join(map(str, settings["hidden_sizes"]))
    machines = ", ".join(dict.fromkeys(run["machine"] for run in result["runs"]))
    text = (
        f"Scores: mean ± standard error of {seeds} seed{'' if seeds == 1 else 's'}, each the mean of the last three "
        f"evaluations of {settings['eval_episodes']} episodes; random and expert as returns. {settings['updates']:,} updates "
        f"({cql:,} of CQL, with {settings['cql_actions']} actions of each kind), batches of {settings['batch_size']}, "
        f"layers of {layers}; {machines}."
    )
    return text if result.get("complete") else f"{text} Not complete."


def _failed(result: Result, where: str, name: str) -> str:
    return "failed" if any("error" in run for run in runs_of(result["runs"], where, name)) else ""


def _returns(result: Result, where: str, name: str) -> list[float]:
    return [run["values"]["return"] for run in runs_at(result, where, name)]


def runs_at(result: Result, where: str, name: str) -> list[Run]:
    """The runs of a method or reference on a data set that did not fail."""
    return [run for run in runs_of(result["runs"], where, name) if "error" not in run]


def methods_of(result: Result) -> list[str]:
    """Those that were measured."""
    return [name for name in METHODS if any(run["contender"] == name for run in result["runs"])]


def places_of(result: Result) -> list[str]:
    """Environments and data sets that were learned from."""
    return list(dict.fromkeys(run["env"] for run in result["runs"] if run["contender"] not in REFERENCES))
