"""What the records of a MuJoCo run say of each seed: returns, entropy, collapse of the router, speed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.lab.runs import Row
from benchmarks.lab.study import Seed


def read_seeds(metrics: Sequence[Row], evaluations: Sequence[Row]) -> list[Seed]:
    """What each seed's run gave.

    Args:
      metrics: rows of metrics.csv.
      evaluations: rows of eval.csv.

    Returns:
      For each seed the final and the best evaluation return, the mean over all evaluations, the last entropy, router entropy
      and collapse, the median speed while learning, and the curve [(step, return)].
    """
    found = []
    for seed in sorted({int(row["seed"]) for row in evaluations}):
        curve = [(int(row["step"]), row["return_mean"]) for row in evaluations if row["seed"] == seed]
        learned = [row for row in metrics if row["seed"] == seed and row.get("updates", 0) > 0]
        returns = [value for _, value in curve]
        values = {"final": returns[-1], "best": max(returns), "mean": statistics.fmean(returns)}
        last: dict[str, Any] = learned[-1] if learned else {}
        names = {
            "entropy": "actor/entropy",
            "router_entropy": "router/entropy",
            "collapsed": "router/collapsed",
            "mean_distance": "router/mean_distance",
        }
        values |= {name: last[column] for name, column in names.items() if math.isfinite(last.get(column, math.nan))}
        # The first line after the start holds the compiling.
        speeds = [row["steps_per_second"] for row in learned[1:] or learned]
        values |= {"steps_per_second": statistics.median(speeds)} if speeds else {}
        found.append(Seed(seed, values, {"curve": curve}))
    return found
