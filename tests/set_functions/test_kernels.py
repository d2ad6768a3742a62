"""Kernels by hand, posteriors against the joint inverse, and samples whose covariance is the one asked for."""

import math

import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.set_functions import matern52, posterior_covariance, sample_field, squared_exponential

POINTS = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])


def test_by_hand():
    scaled = math.sqrt(5) * 5 / 2
    assert matern52(POINTS, 2.0, 3.0)[0, 1] == pytest.approx(3 * (1 + scaled + scaled**2 / 3) * math.exp(-scaled))
    assert squared_exponential(POINTS, 2.0, 3.0)[1, 0] == pytest.approx(3 * math.exp(-25 / 8))
    for kernel in (matern52, squared_exponential):
        covariance = kernel(POINTS, 2.0, 3.0)
        assert covariance.dtype == np.float64 and (np.diag(covariance) == 3.0).all()
        np.testing.assert_array_equal(covariance, covariance.T)


def test_a_posterior_is_the_block_of_the_inverse():
    """Observations as variables of their own: the posterior's inverse is the prior's, and 1 / noise where one looked."""
    prior = matern52(POINTS, 1.5)
    seen = np.diag([0.0, 2 / 0.1, 1 / 0.1])  # element 1 twice
    np.testing.assert_allclose(
        posterior_covariance(prior, [1, 2, 1], 0.1), np.linalg.inv(np.linalg.inv(prior) + seen), rtol=1e-10
    )
    np.testing.assert_array_equal(posterior_covariance(prior, [], 0.1), prior)


@pytest.mark.slow
def test_samples_have_the_covariance_and_follow_the_seed():
    covariance = squared_exponential(POINTS, 2.0, 2.0)
    samples = np.stack([sample_field(covariance, seed) for seed in range(4000)])
    np.testing.assert_allclose(np.cov(samples.T), covariance, atol=0.15)  # standard error 2 * sqrt(2 / 4000) = 0.045
    np.testing.assert_array_equal(sample_field(covariance, 7), samples[7])


def test_fields_all_but_singular_can_be_sampled():
    points = np.linspace(0, 1, 200)[:, None]
    field = sample_field(squared_exponential(points, 1.0), 0)
    assert np.isfinite(field).all() and np.abs(np.diff(field)).max() < 0.1


def test_what_is_refused():
    with pytest.raises(ShapeError, match=r"points must be \[point, axis\], got \[3\]"):
        matern52(np.zeros(3), 1.0)
    with pytest.raises(InvalidSettingError, match="must be above 0, got 0 and 1"):
        squared_exponential(POINTS, 0.0)
    with pytest.raises(InvalidSettingError, match="noise variance must be above 0, got 0"):
        posterior_covariance(np.eye(2), [0], 0.0)
    with pytest.raises(InvalidSettingError, match="no negative eigenvalue"):
        sample_field(np.array([[1.0, 2.0], [2.0, 1.0]]), 0)
