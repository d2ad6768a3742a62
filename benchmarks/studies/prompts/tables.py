"""The study's tables: what each contender reached, and how it differs from the first one, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmarks.lab.study import Result, Results, Run
from benchmarks.lab.tables import markdown
from benchmarks.studies.prompts.setting import LABELS, Long, Synthesis, Templates

COLUMNS = {
    Templates.part: {
        "posed": "right",
        "posed, held out": "right, held out",
        "entropy": "entropy",
        "distinct": "different of 8",
        "rollout/mixed_groups": "groups that teach",
        "prompts/right": "right, own templates",
        "prompts/form": "form paid",
    },
    Synthesis.part: {
        "posed": "right",
        "posed, held out": "right, held out",
        "harder": "right, harder",
        "harder, held out": "right, harder, held out",
        "rollout/mixed_groups": "groups that teach",
        "prompts/described_difficulty": "numbers described",
        "prompts/well_formed": "well-formed",
    },
}
COLUMNS[Long.part] = COLUMNS[Templates.part]
"""By part: metrics and their titles."""
_FIRST = {Templates.part: "one", Long.part: "one", Synthesis.part: "static"}
# Of Student's distribution, 97.5 %, by degrees of freedom; few seeds have wider intervals than the normal's.
_QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def tables(results: Results) -> str:
    """For each part, means and differences with their intervals."""
    return "\n\n".join(
        table for part, result in results.items() for table in (_means(part, result), _apart(part, result))
    )


def runs_by_contender(result: Result) -> dict[str, dict[int, Run]]:
    """The runs without an error, by contender in the order of the labels, and by seed."""
    found = {
        name: {run["repeat"]: run for run in result["runs"] if run["contender"] == name and "error" not in run}
        for name in LABELS
    }
    return {name: runs for name, runs in found.items() if runs}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of its 95 % interval by Student's distribution; NaN of a single value."""
    count = len(values)
    if count < 2:
        return float(np.mean(values)), math.nan
    return float(np.mean(values)), _QUANTILES.get(count - 1, 1.96) * float(np.std(values, ddof=1)) / math.sqrt(count)


def _means(part: str, result: Result) -> str:
    rows = []
    for name, runs in runs_by_contender(result).items():
        cells = [
            _shown([run["values"][metric] for run in runs.values() if metric in run["values"]])
            for metric in COLUMNS[part]
        ]
        rows.append([LABELS[name], *cells])
    machines = ", ".join(dict.fromkeys(run["machine"] for run in result["runs"]))
    seeds = max(map(len, runs_by_contender(result).values()))
    note = (
        f"Means of {seeds} seeds over the last two evaluations (of training: the iterations before them), ± half of the 95 % "
        f"interval by Student's distribution; {machines}." + ("" if result["complete"] else " Not complete.")
    )
    return "\n\n".join([markdown([part, *COLUMNS[part].values()], rows), note])


def _apart(part: str, result: Result) -> str:
    found = runs_by_contender(result)
    first = found.pop(_FIRST[part], {})
    rows = []
    for name, runs in found.items():
        cells = []
        for metric in COLUMNS[part]:
            both = [
                seed
                for seed in runs
                if seed in first and metric in first[seed]["values"] and metric in runs[seed]["values"]
            ]
            cells.append(
                _shown([runs[seed]["values"][metric] - first[seed]["values"][metric] for seed in both], bold=True)
            )
        rows.append([LABELS[name], *cells])
    if not rows:
        return ""
    title = f"less {LABELS[_FIRST[part]]}"
    note = "Differences seed by seed, all of one warm start; bold where the interval excludes 0."
    return "\n\n".join([markdown([title, *COLUMNS[part].values()], rows), note])


def _shown(values: Sequence[float], bold: bool = False) -> str:
    if not values:
        return ""
    estimate, half = interval(values)
    sign = "+" if bold else ""
    text = f"{estimate:{sign}.3f}" + ("" if math.isnan(half) else f" ± {half:.3f}")
    return f"**{text}**" if bold and half < abs(estimate) else text
