"""The study's tables: returns of each contender on each task, at equal steps, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.lab.measure import show_number
from benchmarks.lab.statistics import show_interquartile
from benchmarks.lab.study import Result, Results, Run, runs_of
from benchmarks.lab.tables import markdown
from benchmarks.studies.mujoco.published import PUBLISHED
from benchmarks.studies.mujoco.setting import LABELS, PARTS


def tables(results: Results) -> str:
    """All tables of the parts that were measured."""
    return "\n\n".join(f"### {PARTS[part]}\n\n{_table(result)}" for part, result in results.items())


def _table(result: Result) -> str:
    rows = []
    for env in dict.fromkeys(run["env"] for run in result["runs"]):
        for name, label in LABELS.items():
            runs = [run for run in runs_of(result["runs"], env, name) if "error" not in run]
            if runs:
                shown = [show_interquartile([_values(runs, metric)]) for metric in ("halfway", "return")]
                each = " ".join(map(show_number, _values(runs, "return")))
                rows.append([env, label, *shown, each, show_number(runs[0]["values"]["steps_per_second"])])
        for theirs in PUBLISHED[env]:
            end = max(point[0] for run in result["runs"] for point in run.get("curve", []))
            at = {step: f"{show_number(mean)} ± {show_number(deviation)}" for step, mean, deviation in theirs.points}
            if end in at:
                rows.append([env, theirs.label, at.get(end // 2, ""), at[end], "", ""])
    head = ["task", "agent", "halfway", "at the end", "each seed at the end", "steps/s of each seed"]
    return (
        f"{markdown(head, rows, texts=2)}\n\nReturns of the most likely actions over ten episodes: interquartile means over "
        "seeds, in brackets 95 % intervals from the bootstrap over seeds; of fewer than four the interquartile mean is the "
        "mean. The end is the mean of the last three evaluations. Published values are means and standard deviations of ten "
        "seeds on v4."
    )


def _values(runs: Sequence[Run], metric: str) -> list[float]:
    return [run["values"][metric] for run in runs]
