"""Statistics of few training runs on several tasks: interquartile mean, stratified bootstrap, profiles, comparison.

Source of all estimators: Deep Reinforcement Learning at the Edge of the Statistical Precipice (arXiv 2108.13264), section 4,
whose library is rliable; with equally many runs of every task the numbers are the same as rliable's. Here the tasks may
have unequally many runs: every task then weighs the same, and so do the runs within a task.

Scores are a list with one array [..., run] for each task. Leading axes (training steps, bootstrap resamples) are alike in all
tasks and are kept, so one call gives a whole curve. All functions are pure and need NumPy alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from maxent_rl.errors import InvalidSettingError

Floats: TypeAlias = NDArray[np.float64]
Scores: TypeAlias = Sequence[Floats]

_TRIMMED = 4  # the interquartile mean leaves out one part in four at either end
_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of a score: environments add up rewards in single precision
_BLOCK = 4_000_000  # numbers resampled at once: 32 MB


class Interval(NamedTuple):
    """An estimate and the bounds of its interval.

    Attributes:
      estimate: [...] the statistic of the scores themselves.
      low: [...] lower bound, NaN where there is no interval.
      high: [...] upper bound, NaN where there is no interval.
    """

    estimate: Floats
    low: Floats
    high: Floats


def mean(scores: Scores) -> Floats:
    """Mean over tasks of each task's mean.

    Args:
      scores: one array [..., run] for each task, in any unit.

    Returns:
      [...] in the unit of the scores.

    Raises:
      InvalidSettingError: no tasks, or a task without runs; so do all functions here.
    """
    averaged: Floats = _task_means(scores).mean(axis=-1)
    return averaged


def median(scores: Scores) -> Floats:
    """Median over tasks of each task's mean (of a single task: its mean).

    Args:
      scores: one array [..., run] for each task.

    Returns:
      [...] in the unit of the scores.
    """
    medians: Floats = np.median(_task_means(scores), axis=-1)
    return medians


def interquartile_mean(scores: Scores) -> Floats:
    """Mean of the middle half of all runs of all tasks: the lowest and the highest quarter are left out.

    A quarter is rounded down to whole runs, as `scipy.stats.trim_mean(scores, 0.25)` and rliable do it: of fewer than four
    runs none is left out, and this is the mean. Where tasks have unequally many runs, each counts for as much as makes the
    tasks weigh the same, and of a run on the border only a part may be left out.

    Args:
      scores: one array [..., run] for each task.

    Returns:
      [...] in the unit of the scores.
    """
    _check(scores)
    counts = [task.shape[-1] for task in scores]
    runs = sum(counts)
    cut = runs // _TRIMMED
    weights = np.repeat([runs / (len(counts) * count) for count in counts], counts)  # all 1 where counts are equal
    values = np.concatenate(scores, axis=-1)
    order = np.argsort(values, axis=-1, kind="stable")
    ordered, weights = np.take_along_axis(values, order, axis=-1), weights[order]
    above = np.cumsum(weights, axis=-1)
    kept = np.clip(above, cut, runs - cut) - np.clip(above - weights, cut, runs - cut)
    # What is left out, or only kept by rounding, may be infinite and would spoil the sum.
    products = np.where(kept > 1e-9, ordered, 0.0) * kept
    means: Floats = products.sum(axis=-1) / (runs - 2 * cut)
    return means


def optimality_gap(scores: Scores, target: float = 1.0) -> Floats:
    """How far the runs fall short of a target on average; what lies above the target does not make up for the rest.

    Args:
      scores: one array [..., run] for each task, normalised.
      target: the score that is wanted.

    Returns:
      [...] at least 0, the lower the better; in the unit of the scores.
    """
    return target - mean([np.minimum(task, target) for task in scores])


def performance_profile(scores: Scores, thresholds: Floats) -> Floats:
    """Share of runs whose score lies above each threshold, averaged over tasks (the run-score distribution).

    Args:
      scores: one array [..., run] for each task.
      thresholds: [threshold] in the unit of the scores.

    Returns:
      [..., threshold] between 0 and 1, falling in the threshold.
    """
    _check(scores)
    shares = [(task[..., None, :] > thresholds[:, None]).mean(axis=-1) for task in scores]
    profile: Floats = np.mean(shares, axis=0)
    return profile


def probability_of_improvement(first: Scores, second: Scores) -> Floats:
    """How likely a run of the first method scores higher than one of the second, averaged over tasks.

    The Mann-Whitney statistic over the number of pairs: a tie counts one half. Scores tie that differ by no more than the
    rounding of sums of rewards, as the same episodes give in another order.

    Args:
      first: one array [..., run] for each task.
      second: one array [..., run] for each task, in the same order; numbers of runs may differ.

    Returns:
      [...] between 0 and 1; one half where neither is better.
    """
    _check(first)
    _check(second)
    if len(first) != len(second):
        raise InvalidSettingError(f"Methods are compared on the same tasks, got {len(first)} and {len(second)}.")
    chances = []
    for one, other in zip(first, second, strict=True):
        one_by_one, others = one[..., :, None], other[..., None, :]
        ties = np.isclose(one_by_one, others, rtol=_ROUNDING, atol=0.0)  # infinite ones with themselves
        wins = ((one_by_one > others) & ~ties) + 0.5 * ties
        chances.append(wins.mean(axis=(-2, -1)))
    averaged: Floats = np.mean(chances, axis=0)
    return averaged


def normalize(returns: Floats, low: float, high: float) -> Floats:
    """Puts returns on a scale on which the reference returns are 0 and 1; nothing is clipped.

    Args:
      returns: [...] returns of one task.
      low: the return that becomes 0.
      high: the return that becomes 1.

    Returns:
      [...] without unit.

    Raises:
      InvalidSettingError: the references are not finite, or `high` is not above `low`.
    """
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        raise InvalidSettingError(f"Scores need a low and a higher reference return, got {low:g} and {high:g}.")
    return (returns - low) / (high - low)


def stratified_bootstrap(
    statistic: Callable[..., Floats],
    *methods: Scores,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Estimates a statistic with a percentile interval from the stratified bootstrap.

    A resample draws, for each method and each task on its own (the strata), as many runs as there are, with replacement; a
    run comes with all of its leading axes, so a curve stays whole. The tasks are the same in every resample: the interval
    says what other seeds would give on these tasks, nothing of other tasks. Where no task has two runs of any method
    there is nothing to resample, and the bounds are NaN.

    Args:
      statistic: a function of as many `Scores` as there are methods that keeps leading axes, such as `interquartile_mean`
        or `probability_of_improvement`.
      *methods: the scores of each method: one array [..., run] for each task.
      resamples: how many; rliable's authors take 2000 for profiles and 50,000 for point estimates.
      seed: of the random numbers; the same seed gives the same interval.
      confidence: share of the resampled statistics that lies between the bounds.

    Returns:
      Estimate and bounds of shape [...], as `statistic` gives.

    Raises:
      InvalidSettingError: no tasks, a task without runs, fewer than one resample, or a confidence outside (0, 1).
    """
    if resamples < 1 or not 0 < confidence < 1:
        raise InvalidSettingError(f"{resamples} resamples with a confidence of {confidence:g} give no interval.")
    for scores in methods:
        _check(scores)
    estimate = np.asarray(statistic(*methods), dtype=np.float64)
    if all(task.shape[-1] < 2 for scores in methods for task in scores):
        nothing = np.full_like(estimate, np.nan)
        return Interval(estimate, nothing, nothing)
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // sum(task.size for scores in methods for task in scores))
    drawn = []
    for begin in range(0, resamples, block):
        count = min(block, resamples - begin)
        resampled = [[_resample(task, count, generator) for task in scores] for scores in methods]
        drawn.append(statistic(*resampled))
    edge = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):  # between two infinite values there is no quantile, but NaN
        low, high = np.quantile(np.concatenate(drawn), [edge, 1 - edge], axis=0)
    return Interval(estimate, low, high)


def _resample(task: Floats, count: int, generator: np.random.Generator) -> Floats:
    """[count, ..., run] from [..., run]: runs drawn with replacement, each with all of its leading axes."""
    runs = task.shape[-1]
    chosen = generator.integers(runs, size=(count, runs))
    return np.moveaxis(task[..., chosen], -2, 0)


def _task_means(scores: Scores) -> Floats:
    _check(scores)
    return np.stack([task.mean(axis=-1) for task in scores], axis=-1)


def _check(scores: Scores) -> None:
    if not scores or any(task.ndim == 0 or task.shape[-1] == 0 for task in scores):
        raise InvalidSettingError("Statistics need at least one task, and at least one run of every task.")
