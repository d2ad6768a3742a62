"""The study's tables: what is reached with and without learning, shares of optima, and speeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.lab.measure import BenchmarkError, show_number, show_spread, spread
from benchmarks.lab.statistics import mean_and_error, show_mean
from benchmarks.lab.study import Result, Results, Run, runs_of
from benchmarks.studies.submodular.setting import Learning, Throughput
from benchmarks.studies.submodular.tasks import LABELS, REFERENCES, SMALL

ENOUGH = 0.95
"""Share of the optimum that every seed is to reach."""
ROUNDING = 1e-6
"""Of shares and guarantees, which come of sums and quotients in single precision."""
BAR, BAR_ENV = 100_000, "maxent/BimodalCoverage"
"""Training steps per second that are asked of coverage on a 30 x 30 grid, horizon 40, 128 environments."""


def tables(results: Results) -> str:
    """The tables of the parts that were measured; errors as of `refuse_equal`."""
    parts = []
    if Learning.part in results:
        refuse_equal(results[Learning.part])
        parts.append(learning_tables(results[Learning.part]))
    if Throughput.part in results:
        parts.append(f"### Throughput\n\n{speed_tables(results[Throughput.part])}")
    return "\n\n".join(parts)


def refuse_equal(result: Result) -> None:
    """Refuses two contenders with the same curve to the last digit, where rewards differ: one of them ran as the other.

    Raises:
      BenchmarkError: naming them.
    """
    for env in dict.fromkeys(run["env"] for run in result["runs"]):
        curves = {name: json.dumps([run["curve"] for run in done(result, env, name)]) for name in ("modpo", "subpo")}
        if curves["modpo"] == curves["subpo"] != "[]":
            raise BenchmarkError(f"modpo and subpo have the same curves on {env}: measure them again, one by one.")


def learning_tables(result: Result) -> str:
    """All tables of what was learned, and a note on how they were measured."""
    parts = [
        references_table(result),
        learned_table(result, "sampled", "F of the trajectory, actions sampled"),
        learned_table(result, "most_likely", "F of the trajectory, most likely actions"),
        costs_table(result),
        small_table(result),
        _note(result),
    ]
    return "\n\n".join(part for part in parts if part)


def references_table(result: Result) -> str:
    """What is reached without learning, a line for each environment."""
    columns: dict[str, Callable[[Mapping[str, float]], str]] = {
        "random": lambda found: _shown(found, "random"),
        "greedy, 1 step ahead": lambda found: _mean_and_best(found, "greedy"),
        "greedy, further ahead": lambda found: _mean_and_best(found, "deep"),
        "optimum": lambda found: _shown(found, "optimum"),
        "nobody can exceed": lambda found: _shown(found, "bound"),
    }
    rows = [[short(env), *(cell(references(result, env)) for cell in columns.values())] for env in large(result)]
    for row, env in zip(rows, large(result), strict=True):
        ahead = [run["settings"]["lookahead"] for run in runs_of(result["runs"], env, REFERENCES)]
        row[3] += f", {ahead[0]} steps" if row[3] and ahead else ""
    return _table(["F without learning: mean (best)", *columns], rows)


def learned_table(result: Result, metric: str, title: str) -> str:
    """What everyone reaches at the end, a line for each environment, and by how much subpo is above modpo."""
    rows = []
    for env in large(result):
        cells = [show_mean(values(result, env, name, metric)) or _failed(result, env, name) for name in LABELS]
        rows.append([short(env), *cells, ratio(result, env, metric)])
    return _table([title, *LABELS.values(), "subpo / modpo"], rows)


def costs_table(result: Result) -> str:
    """Steps of each seed, and seconds of training of all seeds together."""
    rows = []
    for env in large(result):
        steps = max((run["curve"][-1][0] for name in LABELS for run in done(result, env, name)), default=0)
        seconds = [values(result, env, name, "seconds")[:1] for name in LABELS]
        rows.append([short(env), f"{steps:,}", *(show_number(each[0]) if each else "" for each in seconds)])
    return _table(["Training", "steps of each seed", *(f"{label}: seconds" for label in LABELS.values())], rows)


def small_table(result: Result) -> str:
    """Shares of the optimum where it was found by enumeration: of every seed, and whether the guarantee holds."""
    rows = []
    for env in environments(result):
        found = references(result, env)
        optimum = found.get("optimum")
        if optimum is None or not done(result, env, "subpo"):
            continue
        shares = [value / optimum for value in values(result, env, "subpo", "sampled")]
        likely = [value / optimum for value in values(result, env, "subpo", "most_likely")]
        additive = [value / optimum for value in values(result, env, "modpo", "sampled")]
        guarantee = found.get("guarantee")
        enough = f"{reached(shares)}, {reached(likely)}"
        cells = [show_number(optimum), _percents(shares), _percents(likely), enough, _percents(additive)]
        held = "" if guarantee is None else f"{guarantee / optimum:.0%}: {kept(shares, guarantee / optimum)}"
        rows.append([short(env), *cells, held])
    heads = ["Share of the optimum, seed by seed", "optimum", "subpo, sampled", "subpo, most likely"]
    return _table([*heads, f"seeds with at least {ENOUGH:.0%}: sampled, likely", "modpo, sampled", "guarantee"], rows)


def reached(shares: Sequence[float]) -> str:
    """`n of all` seeds that come to `ENOUGH` of the optimum."""
    return f"{sum(share >= ENOUGH for share in shares)} of {len(shares)}"


def kept(shares: Sequence[float], guarantee: float) -> str:
    """Whether every seed is at least at the guarantee, a share of the optimum, but for the rounding of all three."""
    return "kept" if min(shares) >= guarantee - ROUNDING else "broken"


def ratio(result: Result, env: str, metric: str) -> str:
    """Mean of subpo over that of modpo, with a standard error by propagation; empty where one was not measured."""
    pair = [values(result, env, name, metric) for name in ("subpo", "modpo")]
    if not all(pair):
        return ""
    (mean, error), (other, other_error) = map(mean_and_error, pair)
    if other <= 0:
        return ""
    found = mean / other
    if np.isnan(error) or np.isnan(other_error) or mean <= 0:
        return f"{found:.2f}"
    return f"{found:.2f} ± {found * float(np.hypot(error / mean, other_error / other)):.2f}"


def speed_tables(result: Result) -> str:
    """Steps per second of training and stepping by environment, and visits per second by set function."""
    rows = []
    envs = [env for env in environments(result) if runs_of(result["runs"], env, "training")]
    for env in envs:
        settings = [run["settings"]["flags"].split() for run in runs_of(result["runs"], env, "training")]
        count = settings[0][settings[0].index("--num-envs") + 1]
        rows.append([short(env), count, *(_speed(result, env, part) for part in ("training", "stepping"))])
    parts = [_table(["Steps per second", "parallel trajectories", "training, 1 seed", "stepping alone"], rows)]
    functions = [env for env in environments(result) if runs_of(result["runs"], env, "visits")]
    parts.append(_table(["Visits per second", ""], [[env, _speed(result, env, "visits")] for env in functions]))
    speeds = [run["values"]["per_second"] for run in done(result, BAR_ENV, "training")]
    if speeds:
        median = spread(speeds)["median"]
        parts.append(
            f"Asked for: {BAR:,} training steps per second on {short(BAR_ENV)}; measured: {median:,.0f}, "
            f"{median / BAR:.1f} times as many."
        )
    machines = ", ".join(dict.fromkeys(run["machine"] for run in result["runs"]))
    count = max(len(runs_of(result["runs"], run["env"], run["contender"])) for run in result["runs"])
    ending = "" if result["complete"] else " Not complete."
    parts.append(f"Median (smallest to largest) of {count} windows after a warm-up; {machines}.{ending}")
    return "\n\n".join(part for part in parts if part)


def environments(result: Result) -> list[str]:
    """In the order in which they were measured."""
    return list(dict.fromkeys(run["env"] for run in result["runs"]))


def large(result: Result) -> list[str]:
    """Environments with a name of their own."""
    return [env for env in environments(result) if not env.startswith(SMALL)]


def done(result: Result, env: str, name: str) -> list[Run]:
    """Runs of a contender that did not fail."""
    return [run for run in runs_of(result["runs"], env, name) if "error" not in run]


def values(result: Result, env: str, name: str, metric: str) -> list[float]:
    """A metric of every seed."""
    return [run["values"][metric] for run in done(result, env, name)]


def references(result: Result, env: str) -> dict[str, float]:
    """F by name of what does not learn; empty where it was not measured."""
    runs = done(result, env, REFERENCES)
    found: dict[str, float] = runs[0]["values"] if runs else {}
    return found


def short(env: str) -> str:
    """An environment's name without where it comes from."""
    return f"{env.rpartition('/')[2]}, small" if env.startswith(SMALL) else env.rpartition("/")[2]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown without columns in which nothing stands; empty without rows."""
    if not rows:
        return ""
    shown = [index for index in range(len(heads)) if index == 0 or any(row[index] for row in rows)]
    lines = [f"| {' | '.join(heads[index] for index in shown)} |", "| --- |" + " ---: |" * (len(shown) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row[index] for index in shown)} |" for row in rows)])


def _shown(found: Mapping[str, float], name: str) -> str:
    return show_number(found[name]) if name in found else ""


def _mean_and_best(found: Mapping[str, float], name: str) -> str:
    best = f" ({show_number(found[f'{name}_best'])})" if f"{name}_best" in found else ""
    return f"{show_number(found[name])}{best}" if name in found else ""


def _percents(shares: Sequence[float]) -> str:
    return " ".join(f"{100 * share:.0f}" for share in shares)


def _failed(result: Result, env: str, name: str) -> str:
    return "failed" if any("error" in run for run in runs_of(result["runs"], env, name)) else ""


def _speed(result: Result, env: str, part: str) -> str:
    speeds = [run["values"]["per_second"] for run in done(result, env, part)]
    return show_spread(spread(speeds)) if speeds else _failed(result, env, part)


def _note(result: Result) -> str:
    learned = [run for run in result["runs"] if run["contender"] in LABELS and "error" not in run]
    seeds = max((len(runs_of(result["runs"], run["env"], run["contender"])) for run in learned), default=0)
    machines = ", ".join(dict.fromkeys(run["machine"] for run in result["runs"]))
    text = f"Mean ± standard error of {seeds} seeds; shares in percent; {machines}."
    return text if result["complete"] else f"{text} Not complete."
