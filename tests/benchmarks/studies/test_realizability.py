"""Whether what the diagnostics predict ranks processes as LSTD's measured errors do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.studies.realizability import measure as benchmark
from maxent_rl.data.measures.bellman import lstd


@pytest.mark.parametrize("kind", benchmark.KINDS)
def test_processes_hold_their_values_in_the_class(kind):
    process = benchmark.draw(kind, np.random.default_rng(0))
    assert process.data.sum() == pytest.approx(1.0) and np.ptp(process.values) == pytest.approx(1.0)
    np.testing.assert_allclose(process.features @ lstd(process.moments(process.data)), process.values, atol=1e-8)
    by_hand = process.reward + benchmark.DISCOUNT * process.transition @ process.values
    np.testing.assert_allclose(by_hand, process.values, atol=1e-10)


def test_rank_correlation_by_hand():
    assert benchmark.spearman(np.array([1.0, 5.0, 9.0]), np.array([2.0, 3.0, 70.0])) == pytest.approx(1.0)
    assert benchmark.spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])) == pytest.approx(0.5)


def test_as_many_processes_of_each_range_of_beta_are_kept():
    options = benchmark.Realizability(tries=60, kept=2, datasets=2, transitions=50)
    betas = np.array([each["beta"] for each in benchmark.learn("random", options)])
    assert np.histogram(betas, benchmark.EDGES)[0].max() <= 2 < len(betas)


@pytest.mark.slow
def test_predictions_rank_the_measured_errors():
    options = dataclasses.replace(benchmark.Realizability(), tries=4000)
    found = benchmark.correlations(benchmark.learn("smoothed", options))
    assert found["processes"] > 50 and found["largest beta"] > 0.95
    assert found["start_value with predicted"] > 0.8 and found["value with predicted"] > 0.8
    assert found["start_value with predicted"] > found["start_value with concentrability"] + 0.1
