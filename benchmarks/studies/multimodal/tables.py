"""The study's tables: what is held of several right answers, returns on MuJoCo, and the router's gradient estimates."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.lab.measure import show_number, show_spread, spread
from benchmarks.lab.statistics import mean_and_error
from benchmarks.lab.study import Result, Results, Run, runs_of
from benchmarks.lab.tables import Cell, interquartile_table, markdown, mean_of, note, rows_of
from benchmarks.studies.multimodal.setting import CONTENDERS, ESTIMATED, Gradients, Mujoco, label

_WHAT = {"maxent/MultiGoal": "goals"}


def tables(results: Results) -> str:
    """All tables of the parts that were measured."""
    parts = [table(part, result) for part, result in results.items() if part != Gradients.part]
    if Mujoco.part in results:
        parts.append(interquartile_returns(results[Mujoco.part]))
    if Gradients.part in results:
        parts.append(f"### The router's gradient estimates\n\n{gradients_table(results[Gradients.part])}")
    return "\n\n".join(part for part in parts if part)


def table(part: str, result: Result) -> str:
    """A table for each environment, with the seeds and the machine below."""
    columns = _MUJOCO if part == Mujoco.part else _TOYS
    parts, failed = [], []
    for env in dict.fromkeys(run["env"] for run in result["runs"]):
        named = {name.replace("optima", _WHAT.get(env, "optima")): cell for name, cell in columns.items()}
        rows, without = rows_of(result, env, named, {contender: label(contender) for contender in CONTENDERS})
        parts.append(rows)
        failed += [f"{name} on {env}" for name in without]
    return "\n\n".join([*parts, note(result, failed)])


def interquartile_returns(result: Result) -> str:
    """Interquartile means of the final returns by contender and environment; empty where nothing was trained."""
    scores = {}
    for contender in CONTENDERS:
        found = {
            env: runs_of(result["runs"], env, contender) for env in dict.fromkeys(run["env"] for run in result["runs"])
        }
        returns = {env: [[run["values"]["final"] for run in runs if "error" not in run]] for env, runs in found.items()}
        if any(values for tasks in returns.values() for values in tasks):
            scores[label(contender)] = returns
    return interquartile_table("Final return", scores)


def gradients_table(result: Result) -> str:
    """Bias, its standard error, cosine and deviation of every estimator: median (smallest to largest) of the seeds."""
    rows = []
    for name in ESTIMATED:
        runs = [run for run in runs_of(result["runs"], "maxent/FourOptima", name) if "error" not in run]
        if runs:
            found = {metric: spread([run["values"][metric] for run in runs]) for metric in runs[0]["values"]}
            error = show_number(found["standard_error"]["median"])
            rows.append(
                [
                    name,
                    show_spread(found["bias"]),
                    error,
                    *(show_spread(found[each]) for each in ("cosine", "deviation")),
                ]
            )
    machines = ", ".join(dict.fromkeys(run["machine"] for run in result["runs"]))
    counts = max(len(runs_of(result["runs"], run["env"], run["contender"])) for run in result["runs"])
    text = f"Median (smallest to largest) of {counts} seeds, {result['settings']['draws']:,} draws each; {machines}."
    return f"{markdown(['', 'bias', 'standard error', 'cosine', 'deviation'], rows)}\n\n{text}"


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
