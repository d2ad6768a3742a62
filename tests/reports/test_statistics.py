"""Statistics of runs: closed forms, laws that must hold, and agreement with SciPy and with rliable."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maxent_rl.errors import InvalidSettingError
from maxent_rl.reports import statistics
from maxent_rl.reports.statistics import (
    interquartile_mean,
    mean,
    median,
    normalize,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)

# Scores [run, task], and what rliable 1.2.0 gives for them (NumPy 2.4.6, SciPy 1.17.1, arch 7.2.0, pandas 2).
FIRST = np.array(
    [
        [0.549, 0.715, 0.603],
        [0.545, 0.424, 0.646],
        [0.438, 0.892, 0.964],
        [0.383, 0.792, 0.529],
        [0.568, 0.926, 0.071],
        [0.087, 0.02, 0.833],
        [0.778, 0.87, 0.979],
        [0.799, 0.461, 0.781],
        [0.118, 0.64, 0.143],
        [0.945, 0.522, 0.415],
    ]
)
SECOND = np.array(
    [
        [0.549, 0.952, 0.602],
        [0.438, 0.121, 0.779],
        [0.773, 0.779, 1.138],
        [0.85, 0.495, 0.581],
        [0.867, 0.166, 0.833],
        [0.838, 0.331, 0.242],
        [0.447, 0.5, 0.727],
        [0.582, 1.187, 0.212],
    ]
)
THRESHOLDS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
RLIABLE = {
    interquartile_mean: (0.611875, 0.63725),
    mean: (0.5812, 0.6245416666666667),
    median: (0.5963999999999999, 0.63925),
    optimality_gap: (0.41879999999999995, 0.389),
}
RLIABLE_INTERVALS = {  # 50,000 resamples
    interquartile_mean: (0.4891875, 0.720875),
    mean: (0.4805325, 0.6775008333333334),
    median: (0.4572, 0.7053),
    optimality_gap: (0.3224991666666666, 0.5194675),
}

numbers = st.floats(-1e3, 1e3, width=32)
tasks = st.integers(1, 4).flatmap(
    lambda count: st.lists(
        st.integers(1, 9).flatmap(lambda runs: arrays(np.float64, runs, elements=numbers)),
        min_size=count,
        max_size=count,
    )
)


def columns(matrix):
    return list(np.asarray(matrix, float).T)


@pytest.mark.parametrize("statistic", RLIABLE, ids=lambda statistic: statistic.__name__)
def test_estimates_are_those_of_rliable(statistic):
    found = statistic(columns(FIRST)), statistic(columns(SECOND))
    np.testing.assert_allclose(found, RLIABLE[statistic], rtol=1e-12)


@pytest.mark.parametrize("statistic", RLIABLE_INTERVALS, ids=lambda statistic: statistic.__name__)
def test_intervals_are_those_of_rliable(statistic):
    found = stratified_bootstrap(statistic, columns(FIRST), resamples=20_000)
    assert found.estimate == statistic(columns(FIRST))
    # Both are random: the bounds of 20,000 resamples scatter by about 0.001.
    np.testing.assert_allclose([found.low, found.high], RLIABLE_INTERVALS[statistic], atol=0.005)


def test_the_performance_profile_is_that_of_rliable():
    profile = partial(performance_profile, thresholds=THRESHOLDS)
    found = stratified_bootstrap(profile, columns(FIRST), resamples=20_000)
    np.testing.assert_allclose(found.estimate, [1, 5 / 6, 2 / 3, 11 / 30, 0], rtol=1e-12)
    np.testing.assert_allclose(found.low, [1, 0.7, 0.5, 0.2, 0], atol=1e-12)
    np.testing.assert_allclose(found.high, [1, 29 / 30, 5 / 6, 16 / 30, 0], atol=1e-12)


def test_the_probability_of_improvement_is_that_of_rliable():
    found = stratified_bootstrap(probability_of_improvement, columns(SECOND), columns(FIRST), resamples=20_000)
    assert found.estimate == pytest.approx(0.54375, rel=1e-12)
    np.testing.assert_allclose([found.low, found.high], [0.38125, 0.6979166666666666], atol=0.005)


def test_the_numbers_of_rliables_own_tests():
    first, second = columns([[1, 2], [2, 2], [1, 1], [2, 1]]), columns([[1, 1], [2, 2], [3, 3]])
    assert [float(statistic(first)) for statistic in (median, mean, interquartile_mean)] == [1.5, 1.5, 1.5]
    assert [float(statistic(second)) for statistic in (median, mean, interquartile_mean)] == [2, 2, 2]
    assert probability_of_improvement(first, second) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 6.0], 3.0),  # fewer than four: the mean
        ([0.0, 1.0, 3.0, 100.0], 2.0),
        ([5.0, -100.0, 1.0, 3.0, 200.0], 3.0),
        ([-np.inf, 1.0, 3.0, np.inf], 2.0),
    ],
)
def test_the_interquartile_mean_of_one_task(runs, expected):
    assert interquartile_mean([np.array(runs)]) == expected


def test_tasks_weigh_the_same_however_many_runs_they_have():
    few, many = np.array([0.0]), np.array([4.0, 4.0, 4.0])
    assert mean([few, many]) == median([few, many]) == 2.0
    assert optimality_gap([few, many], target=4.0) == 2.0
    np.testing.assert_array_equal(performance_profile([few, many], np.array([1.0])), [0.5])
    # Four runs, one of them cut at either end. The lone run stands for two: half of it stays, beside the middle.
    assert interquartile_mean([few, many]) == pytest.approx((1.0 * 0.0 + 1.0 * 4.0) / 2)


@given(tasks, st.integers(2, 5))
def test_repeating_every_run_changes_no_estimate_of_whole_quarters(scores, times):
    four_times = [np.repeat(task, 4) for task in scores]
    again = [np.repeat(task, times) for task in four_times]
    for statistic in (mean, median, interquartile_mean, optimality_gap):
        np.testing.assert_allclose(statistic(again), statistic(four_times), rtol=1e-9, atol=1e-9)


@given(arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 5)), elements=numbers))
def test_with_equally_many_runs_it_is_scipys_trimmed_mean(scores):
    expected = scipy.stats.trim_mean(scores, 0.25, axis=None)
    np.testing.assert_allclose(interquartile_mean(columns(scores)), expected, rtol=1e-9, atol=1e-9)


@given(tasks, st.floats(0.125, 8), numbers)
def test_estimates_follow_a_change_of_scale(scores, factor, shift):
    moved = [factor * task + shift for task in scores]
    for statistic in (mean, median, interquartile_mean):
        expected = factor * statistic(scores) + shift
        np.testing.assert_allclose(statistic(moved), expected, rtol=1e-6, atol=1e-6)


@given(tasks)
def test_estimates_lie_between_the_extremes_and_the_order_of_runs_does_not_matter(scores):
    low, high = min(task.min() for task in scores), max(task.max() for task in scores)
    for statistic in (mean, median, interquartile_mean):
        assert low - 1e-9 <= statistic(scores) <= high + 1e-9
        np.testing.assert_allclose(statistic([task[::-1] for task in scores]), statistic(scores), rtol=1e-9, atol=1e-9)


@given(tasks)
def test_a_profile_falls_from_one_to_zero(scores):
    edges = np.concatenate([[-1e4], np.sort(np.concatenate(scores)), [1e4]])
    profile = performance_profile(scores, edges)
    assert profile[0] == 1 and profile[-1] == 0
    assert np.all(np.diff(profile) <= 1e-12)


@given(tasks.flatmap(lambda scores: st.tuples(st.just(scores), st.permutations(scores))))
def test_one_method_is_better_as_often_as_the_other_is_worse(pair):
    first, second = pair
    chance = probability_of_improvement(first, second)
    assert 0 <= chance <= 1
    assert chance == pytest.approx(1 - probability_of_improvement(second, first))
    expected = [
        scipy.stats.mannwhitneyu(one, other, method="asymptotic").statistic / (one.size * other.size)
        for one, other in zip(first, second, strict=True)
    ]
    assert chance == pytest.approx(np.mean(expected))


def test_clear_cases_of_improvement():
    low, high = [np.array([1.0, 2.0])], [np.array([3.0, 4.0, 5.0])]
    assert probability_of_improvement(high, low) == 1
    assert probability_of_improvement(low, high) == 0
    assert probability_of_improvement(low, low) == 0.5


@pytest.mark.parametrize(
    "statistic",
    [mean, median, interquartile_mean, optimality_gap, partial(performance_profile, thresholds=THRESHOLDS)],
)
def test_leading_axes_are_kept(statistic):
    curves = [np.arange(24.0).reshape(2, 3, 4) % 7, np.arange(12.0).reshape(2, 3, 2) % 5]
    found = statistic(curves)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(found[index], statistic([task[index] for task in curves]))


def test_normalisation_puts_the_references_at_zero_and_one():
    np.testing.assert_allclose(normalize(np.array([-1500.0, -150.0, -825.0, 1200.0]), -1500, -150), [0, 1, 0.5, 2])
    for low, high in ((1.0, 1.0), (2.0, 1.0), (0.0, np.inf), (np.nan, 1.0)):
        with pytest.raises(InvalidSettingError, match="low and a higher"):
            normalize(np.zeros(1), low, high)


def test_the_bootstrap_keeps_strata_and_whole_curves():
    seen = []

    def record(scores):
        seen.append(scores)
        return mean(scores)

    curves = np.array([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]])  # [step, run]: the second step is the first plus ten
    stratified_bootstrap(record, [curves, curves + 100], resamples=50)
    _, (first, second) = seen
    assert first.shape == second.shape == (50, 2, 3)
    np.testing.assert_array_equal(first[:, 1], first[:, 0] + 10)
    assert set(first[:, 0].ravel()) == {0.0, 1.0, 2.0} and set(second[:, 0].ravel()) == {100.0, 101.0, 102.0}
    assert any((one - other + 100).any() for one, other in zip(first[:, 0], second[:, 0], strict=True))


def test_the_same_seed_gives_the_same_interval_whatever_the_blocks(monkeypatch):
    scores = columns(FIRST)
    once, again = (stratified_bootstrap(mean, scores, resamples=100, seed=3) for _ in range(2))
    assert once == again
    assert stratified_bootstrap(mean, scores, resamples=100, seed=4).low != once.low
    monkeypatch.setattr(statistics, "_BLOCK", 1)
    in_blocks = stratified_bootstrap(mean, scores, resamples=100, seed=3)
    np.testing.assert_allclose([in_blocks.low, in_blocks.high], [once.low, once.high], atol=0.05)


def test_an_interval_narrows_with_its_confidence_and_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        scores = list(generator.normal(size=(3, 30)))
        wide = stratified_bootstrap(mean, scores, resamples=300, seed=trial)
        narrow = stratified_bootstrap(mean, scores, resamples=300, seed=trial, confidence=0.5)
        assert wide.low < narrow.low < narrow.high < wide.high
        covered += bool(wide.low <= 0 <= wide.high)
    assert 180 <= covered <= 199  # 190 expected, standard deviation 3


def test_without_a_second_run_there_is_no_interval():
    found = stratified_bootstrap(mean, [np.array([1.0]), np.array([3.0])])
    assert found.estimate == 2 and np.isnan(found.low) and np.isnan(found.high)


@pytest.mark.parametrize("scores", [[], [np.zeros(0)], [np.ones(2), np.zeros((3, 0))], [np.float64(1.0)]])
def test_no_runs_is_an_error_and_not_a_nan(scores):
    for statistic in (mean, median, interquartile_mean, optimality_gap):
        with pytest.raises(InvalidSettingError, match="at least one run"):
            statistic(scores)
    with pytest.raises(InvalidSettingError, match="at least one run"):
        stratified_bootstrap(mean, scores)


def test_impossible_requests_are_refused():
    with pytest.raises(InvalidSettingError, match="same tasks"):
        probability_of_improvement([np.ones(1)], [np.ones(1), np.ones(1)])
    with pytest.raises(InvalidSettingError, match="0 resamples"):
        stratified_bootstrap(mean, [np.ones(2)], resamples=0)
    with pytest.raises(InvalidSettingError, match="confidence of 1"):
        stratified_bootstrap(mean, [np.ones(2)], confidence=1.0)


def test_statistics_need_numpy_alone():
    code = "import sys, maxent_rl.reports.statistics\nprint(*{'jax', 'flax', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("value", [0.3, -70.0, 3141.6])
def test_scores_that_round_apart_are_ties(value):
    """The same episodes in another order have the same mean but for its last bits."""
    near = np.array([value, np.nextafter(np.float32(value), np.float32(np.inf))], np.float64)
    assert probability_of_improvement([near[1:]], [near]) == 0.5 == probability_of_improvement([near[:1]], [near])
    assert probability_of_improvement([near + 1e-5 * abs(value)], [near]) == 1
    infinite = np.array([np.inf, -np.inf, value])
    assert probability_of_improvement([infinite], [infinite]) == 0.5
    assert probability_of_improvement([np.array([np.inf])], [near]) == 1
