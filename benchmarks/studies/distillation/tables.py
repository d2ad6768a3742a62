"""The study's tables: how near students come to their teachers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.lab.measure import show_number
from benchmarks.lab.study import Result, Results, Run, runs_of
from benchmarks.lab.tables import Cell, interquartile_table, mean_of, note, rows_of
from benchmarks.studies.distillation.setting import CONTENDERS, label

PAPER = {
    "HalfCheetah": {"kd": (-309.0, 0.857, 30.50), "self": (279.3, 0.765, 10.45), "ema": (166.8, 0.858, 0.62)},
    "Hopper": {"kd": (36.9, 0.799, 16.98), "self": (177.3, 0.684, 7.61), "ema": (855.6, 0.755, 3.97)},
}
"""(return, NDCG, KL) of the paper's methods; its teachers had 8476.5 and 1169.8."""

_PAPER_NAMES = {"kd": "kd", "fixed-plain": "self", "ema-plain": "ema"}
LARGEST = 100.0
"""Nats: what has left a teacher that far behind is lost, and how far says nothing."""


def tables(results: Results) -> str:
    """The table of each environment, and interquartile means over both."""
    result = results["distillation"]
    return "\n\n".join(part for part in (table(result), interquartile_shares(result)) if part)


def table(result: Result) -> str:
    """A table for each environment, with the paper's figures where it has the method."""
    parts, failed = [], []
    labels = {contender: label(contender) for contender in CONTENDERS}
    for env in dict.fromkeys(run["env"] for run in result["runs"]):
        runs = [run for run in result["runs"] if run["env"] == env and "error" not in run]
        teacher = show_number(runs[0]["values"]["teacher_return"]) if runs else "?"
        columns = dict(_COLUMNS) | {"paper: return, NDCG, KL": _paper(env)}
        rows, without = rows_of(result, env, columns, labels, f"{env} (teacher {teacher})")
        parts.append(rows)
        failed += [f"{name} on {env}" for name in without]
    return "\n\n".join([*parts, note(result, failed).replace("steps each", "updates each")])


def interquartile_shares(result: Result) -> str:
    """Interquartile means of the students' returns as shares of their teachers', by environment and over all of them."""
    envs, scores = list(dict.fromkeys(run["env"] for run in result["runs"])), {}
    for contender in CONTENDERS:
        runs = {env: [run for run in runs_of(result["runs"], env, contender) if "error" not in run] for env in envs}
        if any(runs.values()):
            shares = {env: [[_share_of(run) for run in found]] for env, found in runs.items()}
            scores[label(contender)] = shares | {"all": [share for each in shares.values() for share in each]}
    return interquartile_table("Return over the teacher's", scores)


def _divergence(metric: str) -> Cell:
    """As `mean_of`, but that students without any likeness to the teacher are said to be such."""

    def cell(runs: Sequence[Run]) -> str:
        found = [run["values"][metric] for run in runs if metric in run["values"]]
        return f"over {LARGEST:,.0f}" if found and np.mean(found) > LARGEST else mean_of(metric)(runs)

    return cell


def _paper(env: str) -> Cell:
    def cell(runs: Sequence[Run]) -> str:
        name = _PAPER_NAMES.get(runs[0]["contender"])
        if name is None or env not in PAPER:
            return ""
        found = PAPER[env][name]
        return f"{found[0]:,.1f}, {found[1]}, {found[2]:.2f}"

    return cell


def _share(runs: Sequence[Run]) -> str:
    return f"{np.mean([_share_of(run) for run in runs]):.0%}"


def _share_of(run: Run) -> float:
    return float(run["values"]["return"] / run["values"]["teacher_return"])


_COLUMNS: dict[str, Cell] = {
    "return": mean_of("return"),
    "of the teacher's": _share,
    "NDCG": mean_of("ndcg"),
    "KL from the teacher": _divergence("kl"),
    "entropy": mean_of("entropy"),
    "KL from the derived fixed point": mean_of("kl_fixed_point"),
    "the fixed point's own KL from the teacher": mean_of("kl_of_fixed_point"),
}
