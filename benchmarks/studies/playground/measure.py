"""Trains a unit, and says what its records hold of each seed: returns, curve, speed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.lab.runs import Row, measure_run
from benchmarks.lab.study import Measured, Seed, Unit

_LAST = 3  # evaluations whose mean is the return of a run: none is chosen


def measure(unit: Unit, plan: Any, work: Path) -> Measured:
    """Runs experiments/run.py, or goes on with its interrupted run.

    Raises:
      BenchmarkError: the run failed.
    """
    return measure_run(work, read_seeds, unit)


def read_seeds(metrics: Sequence[Row], evaluations: Sequence[Row]) -> list[Seed]:
    """What each seed's run gave.

    Args:
      metrics: rows of metrics.csv.
      evaluations: rows of eval.csv.

    Returns:
      For each seed its return (mean of the last three evaluations), the mean over all evaluations, the return halfway, the
      median speed while learning in steps of each seed, and the curve [(step, return)].
    """
    found = []
    for seed in sorted({int(row["seed"]) for row in evaluations}):
        curve = [(int(row["step"]), round(row["return_mean"], 2)) for row in evaluations if row["seed"] == seed]
        returns = [value for _, value in curve]
        middle = min(curve, key=lambda point: abs(point[0] - curve[-1][0] / 2))
        values = {
            "return": statistics.fmean(returns[-_LAST:]),
            "halfway": middle[1],
            "mean": statistics.fmean(returns),
        }
        learned = [row for row in metrics if row["seed"] == seed and row.get("updates", 0) > 0]
        # The first line after the start holds the compiling.
        speeds = [row["steps_per_second"] for row in learned[1:] or learned]
        values |= {"steps_per_second": statistics.median(speeds)} if speeds else {}
        found.append(Seed(seed, values, {"curve": curve}))
    return found
