"""Which of the router's gradient estimates are unbiased, against quadrature."""

import numpy as np
import pytest

from benchmarks.studies.multimodal import gradients as benchmark
from benchmarks.studies.multimodal.setting import ESTIMATED, Gradients

DRAWS = 4000


@pytest.fixture(scope="module")
def targets():
    return benchmark.targets()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["score", "exact", "exact, with the router's entropy", "frequency, for its own target"]
)
def test_unbiased_estimators_lie_within_four_standard_errors(name, targets):
    loss, target = benchmark.LOSSES[name], ESTIMATED[name]
    estimates = benchmark.gradients(loss, 0, DRAWS)
    errors = estimates.std(axis=0, ddof=1) / np.sqrt(DRAWS)
    assert np.all(np.abs(estimates.mean(axis=0) - targets[target]) < 4 * errors + 1e-7)
    found = benchmark.compare(estimates, targets[target])
    assert found["bias"] < 4 * found["standard_error"] and found["cosine"] > 0.97


@pytest.mark.slow
def test_a_soft_relaxation_is_biased_and_the_test_would_see_it(targets):
    found = benchmark.compare(benchmark.gradients(benchmark.LOSSES["gumbel, relaxation 1"], 0, DRAWS), targets["cost"])
    assert found["bias"] > 10 * found["standard_error"]


def test_exact_gradients_sum_to_zero(targets):
    """Adding a constant to all logits changes no weight."""
    for gradient in targets.values():
        np.testing.assert_allclose(gradient.sum(), 0.0, atol=1e-7)
        assert np.linalg.norm(gradient) > 1e-3


def test_frequencies_of_four_equal_and_of_shifted_values():
    """Equal experts win a quarter each; one that is always above wins always."""
    values = np.random.default_rng(0).normal(size=(2000, 1)) * np.ones(4)
    weights = np.full(2000, 1 / 2000)
    np.testing.assert_allclose(benchmark._frequencies(values, weights), 0.25, atol=1e-6)
    np.testing.assert_allclose(
        benchmark._frequencies(values + np.array([0, 50, 0, 0]), weights), [0, 1, 0, 0], atol=1e-6
    )


def test_comparison_by_hand():
    estimates = np.array([[3.0, 5.0], [3.0, 3.0]])  # mean (3, 4), variance (0, 2)
    found = benchmark.compare(estimates, np.array([3.0, 0.0]))
    expected = {"bias": 4 / 3, "standard_error": 1 / 3, "cosine": 0.6, "deviation": np.sqrt(2) / 3}
    assert found == pytest.approx(expected)


@pytest.mark.slow
def test_every_estimator_has_a_loss_and_is_measured_once_for_each_seed():
    units = Gradients(seeds=2, draws=50).units()
    assert [unit.contender for unit in units] == list(benchmark.LOSSES)
    measured = benchmark.measure_gradient(units[0])
    assert [seed.seed for seed in measured.seeds] == [0, 1] and set(measured.seeds[0].values) == {
        "bias", "standard_error", "cosine", "deviation",
    }  # fmt: skip
