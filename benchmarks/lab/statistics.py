"""Means and interquartile means of few seeds, with their errors and intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.lab.measure import show_number
from maxent_rl.reports.statistics import Interval, interquartile_mean, stratified_bootstrap


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and its standard error; that of a single seed is not known (NaN)."""
    error = float(np.std(values, ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), float(error)


def show_mean(values: Sequence[float]) -> str:
    """`mean ± standard error`, or the number alone where there is one; empty for none."""
    if not values:
        return ""
    mean, error = mean_and_error(values)
    return show_number(mean) if np.isnan(error) else f"{show_number(mean)} ± {show_number(error)}"


def interquartile(tasks: Sequence[Sequence[float]]) -> Interval:
    """Interquartile mean over tasks and seeds, with its 95 % interval from the stratified bootstrap over seeds.

    Args:
      tasks: for each task the scores of its seeds, all on one scale.
    """
    return stratified_bootstrap(interquartile_mean, [np.asarray(task, np.float64) for task in tasks])


def show_interquartile(tasks: Sequence[Sequence[float]]) -> str:
    """`interquartile mean (low to high)`, or the number alone where there is one seed; empty where a task has none."""
    if not tasks or not all(len(task) for task in tasks):
        return ""
    found = interquartile(tasks)
    if np.isnan(found.low):
        return show_number(float(found.estimate))
    return f"{show_number(float(found.estimate))} ({show_number(float(found.low))} to {show_number(float(found.high))})"
