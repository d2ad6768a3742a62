"""Mis-alignment, inherent Bellman error, coverage and stability of known processes: worked numbers and identities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxent_rl.data import bellman
from maxent_rl.data.bellman import exact_moments, misalignment, occupancy

PAIRS, D, GAMMA = 8, 3, 0.9
# Three pairs of which the third has the features of both others.
PHI = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
CHAIN = np.array([[0.0, 0.5, 0.5], [0.2, 0.3, 0.5], [0.6, 0.2, 0.2]])
MU = np.array([0.5, 0.3, 0.2])
THETA = np.array([0.3, -0.2])
START = np.array([1.0, 0.0, 0.0])
REWARD = (PHI - GAMMA * CHAIN @ PHI) @ THETA


def three_pairs():
    return exact_moments(PHI, CHAIN, MU, REWARD, GAMMA)


def random_process(seed, pairs=PAIRS, features=D):
    """Features, transitions, data and start of a process that ends nowhere."""
    rng = np.random.default_rng(seed)
    phi, transition = rng.normal(size=(pairs, features)), rng.dirichlet(np.full(pairs, 0.5), size=pairs)
    return phi, transition, rng.dirichlet(np.ones(pairs)), rng.dirichlet(np.ones(pairs)), rng


def stationary(transition):
    return np.linalg.matrix_power(transition, 10_000)[0]


@pytest.mark.parametrize(
    ("gamma", "smallest", "beta", "unit"),
    [
        (0.5, 0.8, 0.447214, 0.316228),
        (0.8, 0.015385, 0.992278, 0.505964),
        (5 / 6, 0.0, 1.0, 0.527046),
        (0.9, 0.047059, 0.976187, 0.569210),
    ],
)
def test_two_states_by_hand(gamma, smallest, beta, unit):
    """Features 1 and 2, both states lead to the second, both equally often in the data."""
    moments = exact_moments(np.array([[1.0], [2.0]]), np.array([[0.0, 1.0]] * 2), np.full(2, 0.5), np.zeros(2), gamma)
    assert moments.covariance == 2.5 and moments.cross == 3 and moments.conditional == 4
    found = misalignment(moments)
    assert found.beta == pytest.approx(beta, abs=1e-5)
    assert 1 / found.amplification == pytest.approx(smallest, abs=1e-5)
    assert bellman.inherent_error(moments).unit == pytest.approx(unit, abs=1e-5)
    steady = bellman.stability(moments)
    assert steady.smallest_real == pytest.approx(2.5 - 3 * gamma)
    assert steady.smallest_singular == pytest.approx(abs(2.5 - 3 * gamma) / 2.5)
    on_policy = exact_moments(
        np.array([[1.0], [2.0]]), np.array([[0.0, 1.0]] * 2), np.array([0.0, 1.0]), np.zeros(2), gamma
    )
    assert misalignment(on_policy).beta == pytest.approx(0.0, abs=1e-6)


def test_three_pairs_by_hand():
    moments = three_pairs()
    np.testing.assert_allclose(moments.covariance, [[0.7, 0.2], [0.2, 0.5]])
    np.testing.assert_allclose(moments.cross, [[0.41, 0.58], [0.37, 0.32]])
    np.testing.assert_allclose(moments.conditional, [[0.4, 0.482], [0.482, 0.724]])
    np.testing.assert_allclose(moments.full, [[0.286, -0.26458], [-0.26458, 0.51044]], atol=1e-5)
    np.testing.assert_allclose(moments.projected, [[0.273458, -0.308477], [-0.308477, 0.356801]], atol=1e-5)
    values, _ = bellman.generalised_eigen(moments.projected, moments.full)
    np.testing.assert_allclose(values, [0.031747, 1.0], atol=1e-5)
    found = misalignment(moments)
    assert found.beta == pytest.approx(0.983998, abs=1e-5)
    assert found.amplification == pytest.approx(31.498656, abs=1e-5)
    assert bellman.inherent_error(moments).unit == pytest.approx(0.407653, abs=1e-5)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(moments.system)), [0.056172, 0.486828], atol=1e-5)
    assert bellman.stability(moments).smallest_real == pytest.approx(0.056172, abs=1e-5)
    np.testing.assert_allclose(bellman.lstd(moments), THETA, atol=1e-12)


def test_coverage_of_three_pairs_by_hand():
    target = occupancy(CHAIN, START, GAMMA)
    np.testing.assert_allclose(target, [0.345389, 0.300280, 0.354331], atol=1e-5)
    wanted = exact_moments(PHI, CHAIN, target, REWARD, GAMMA)
    assert bellman.concentrability(wanted.full, three_pairs().full) == pytest.approx(1.492340, abs=1e-5)
    found = bellman.tabular_coverage(target, MU)
    assert found.largest_ratio == pytest.approx(1.771654, abs=1e-5)
    assert found.chi_square == pytest.approx(1.166899, abs=1e-5) and found.unseen == 0
    assert bellman.tabular_coverage(target, np.array([0.5, 0.5, 0.0])) == pytest.approx(
        (math.inf, math.inf, 0.354331), abs=1e-5
    )


def test_value_and_bound_of_three_pairs_by_hand():
    theta = np.array([0.8, 0.4])
    error = (PHI - GAMMA * CHAIN @ PHI) @ theta - REWARD
    assert START @ PHI @ (theta - THETA) == pytest.approx(0.5)
    assert occupancy(CHAIN, START, GAMMA) @ error / (1 - GAMMA) == pytest.approx(0.5)
    norm = math.sqrt(MU @ error**2)
    assert norm == pytest.approx(0.310661, abs=1e-5)
    assert bellman.value_bound(1.492340, norm, GAMMA) == pytest.approx(3.795080, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_a_table_is_complete(seed):
    _, transition, mu, _, _ = random_process(seed)
    moments = exact_moments(np.eye(PAIRS), transition, mu, np.zeros(PAIRS), GAMMA)
    np.testing.assert_allclose(moments.projected, moments.full, atol=1e-12)
    assert misalignment(moments).beta == pytest.approx(0.0, abs=1e-6)
    assert bellman.inherent_error(moments) == pytest.approx((0.0, 0.0), abs=1e-6)


def test_without_a_future_there_is_nothing_to_be_misaligned_with():
    phi, transition, mu, start, _ = random_process(0)
    moments = exact_moments(phi, transition, mu, np.zeros(PAIRS), 0.0)
    assert misalignment(moments).beta == pytest.approx(0.0, abs=1e-6)
    assert misalignment(moments.with_ridge(1e-3)).beta == pytest.approx(0.0, abs=1e-6)
    wanted = exact_moments(phi, transition, start, np.zeros(PAIRS), 0.0)
    ratio = np.linalg.eigvals(np.linalg.solve(moments.covariance, wanted.covariance)).real.max()
    assert bellman.concentrability(wanted.full, moments.full) == pytest.approx(ratio)


@given(st.integers(0, 10_000), st.floats(0.0, 0.99))
@settings(max_examples=50, deadline=None)
def test_what_holds_for_every_process(seed, gamma):
    """Data of the policy has C = 1; C is at most the largest ratio; start values err by E[Q - TQ] / (1 - gamma)."""
    phi, transition, mu, start, rng = random_process(seed)
    target = occupancy(transition, start, gamma)
    assert target.sum() == pytest.approx(1.0) and target.min() >= 0
    theta_star, theta = rng.normal(size=(2, D))
    reward = (phi - gamma * transition @ phi) @ theta_star
    wanted, moments = (exact_moments(phi, transition, weights, reward, gamma) for weights in (target, mu))
    assert bellman.concentrability(wanted.full, wanted.full) == pytest.approx(1.0)
    ratio = bellman.concentrability(wanted.full, moments.full)
    assert ratio <= bellman.tabular_coverage(target, mu).largest_ratio * (1 + 1e-9)
    error = (phi - gamma * transition @ phi) @ theta - reward
    assert start @ phi @ (theta - theta_star) == pytest.approx(target @ error / (1 - gamma), abs=1e-8)
    assert abs(start @ phi @ (theta - theta_star)) <= bellman.value_bound(ratio, math.sqrt(mu @ error**2), gamma) * (
        1 + 1e-9
    )
    values, _ = bellman.generalised_eigen(moments.projected, moments.full)
    assert values[0] >= -1e-9 and values[-1] <= 1 + 1e-9
    missed = error - phi @ np.linalg.lstsq(phi * mu[:, None] ** 0.5, error * mu**0.5, rcond=None)[0]
    # The square of beta is 1 less an eigenvalue near 1: where gamma is tiny, rounding hides a beta below 1e-6.
    beta = misalignment(moments).beta + 1e-6
    assert math.sqrt(mu @ missed**2) <= beta * math.sqrt(mu @ error**2) + 1e-9


@given(st.integers(0, 10_000), st.floats(0.0, 0.99))
@settings(max_examples=50, deadline=None)
def test_data_of_the_policy_itself_has_a_beta_of_at_most_gamma(seed, gamma):
    phi, transition, _, _, _ = random_process(seed)
    transition = 0.95 * transition + 0.05 / PAIRS
    moments = exact_moments(phi, transition, stationary(transition), np.zeros(PAIRS), gamma)
    found = misalignment(moments)
    assert found.beta <= gamma + 1e-6
    assert found.amplification <= 1 / (1 - gamma**2) * (1 + 1e-6)


def test_a_change_of_features_changes_nothing_but_units():
    phi, transition, mu, start, rng = random_process(1)
    other = phi @ rng.normal(size=(D, D))
    reward = rng.normal(size=PAIRS)
    both = []
    for features in (phi, other):
        moments = exact_moments(features, transition, mu, reward, GAMMA)
        wanted = exact_moments(features, transition, start, reward, GAMMA)
        both.append(
            [
                *misalignment(moments)[:2],
                bellman.concentrability(wanted.full, moments.full),
                bellman.inherent_error(moments).relative,
                bellman.stability(moments).smallest_singular,
                *(features @ bellman.lstd(moments)),
            ]
        )
    np.testing.assert_allclose(*both, rtol=1e-6)


def test_features_that_hold_what_follows_make_the_class_complete():
    phi, transition, mu, _, _ = random_process(2, features=1)
    betas = []
    for _ in range(PAIRS):
        betas.append(misalignment(exact_moments(phi, transition, mu, np.zeros(PAIRS), GAMMA)).beta)
        phi = np.concatenate([phi, transition @ phi[:, -1:]], axis=1)
        phi = np.linalg.qr(phi)[0]  # powers of a matrix soon all point the same way
    assert betas[0] > 0.3 and betas[-1] < 1e-3


def test_the_minimax_estimator_is_lstd():
    """On samples: the loss against its own target, less the least against it, is the projected Bellman error."""
    rng = np.random.default_rng(0)
    phi, phi2, reward = rng.normal(size=(50, D)), rng.normal(size=(50, D)), rng.normal(size=50)
    n = len(phi)
    moments = bellman.Moments(phi.T @ phi / n, phi.T @ phi2 / n, phi2.T @ phi2 / n, phi.T @ reward / n, GAMMA)
    for theta in (*rng.normal(size=(3, D)), bellman.lstd(moments)):
        target = reward + GAMMA * phi2 @ theta
        best = phi @ np.linalg.lstsq(phi, target, rcond=None)[0]
        by_hand = np.mean((phi @ theta - target) ** 2) - np.mean((best - target) ** 2)
        assert bellman.minimax_objective(theta, moments) == pytest.approx(by_hand, abs=1e-9)
    assert bellman.minimax_objective(bellman.lstd(moments), moments) == pytest.approx(0.0, abs=1e-9)


def test_features_that_are_copies_or_nothing_are_left_out():
    phi, transition, mu, start, _ = random_process(3)
    wide = np.concatenate([phi, phi[:, :1], np.zeros((PAIRS, 1))], axis=1)
    plain, copied = (exact_moments(features, transition, mu, np.ones(PAIRS), GAMMA) for features in (phi, wide))
    assert misalignment(copied).beta == pytest.approx(misalignment(plain).beta, abs=1e-6)
    np.testing.assert_allclose(wide @ bellman.lstd(copied), phi @ bellman.lstd(plain), atol=1e-8)
    assert bellman.feature_coverage(copied.covariance).condition > 1e12
    wanted = exact_moments(wide, transition, start, np.ones(PAIRS), GAMMA)
    assert math.isfinite(bellman.concentrability(wanted.full, copied.full))


def test_a_direction_that_the_data_lacks_has_no_bound():
    moments = np.diag([1.0, 0.0])
    assert bellman.concentrability(np.eye(2), moments) == math.inf
    assert bellman.concentrability(np.diag([2.0, 0.0]), moments) == 2.0
    assert bellman.feature_coverage(np.diag([2.0, 2.0])) == (2.0, 1.0, 2.0)
    assert bellman.feature_coverage(np.diag([3.0, 0.0])) == (0.0, math.inf, 1.0)


def test_predicted_error_by_hand():
    assert bellman.predicted_error(4.0, 9.0, 5, 500, 0.9, 2.0) == pytest.approx(
        math.sqrt(36 * 5 * math.log(500) / 500) * 10 * 2
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_direction_that_is_missing_but_for_rounding_is_missing(seed):
    """Of a feature that is the sum of two others the eigenvalue is 1e-17, or less than nothing, and not 0."""
    phi = np.random.default_rng(seed).normal(size=(50, 4))
    phi[:, 3] = 0.1 * phi[:, 0] + 0.7 * phi[:, 1]
    assert bellman.feature_coverage(phi.T @ phi).condition == math.inf
    assert bellman.feature_coverage(phi[:, :3].T @ phi[:, :3]).condition < 100


@pytest.mark.parametrize("seed", range(10))
def test_an_error_that_hides_but_for_rounding_hides(seed):
    """One direction moves no projected error, or 1e-17 of it: the statistical error may be amplified without bound."""
    random = np.random.default_rng(seed)
    system = np.outer(random.normal(size=2), random.normal(size=2))
    moments = bellman.Moments(np.eye(2), np.eye(2) - system, 50 * np.eye(2), np.zeros(2), 1.0)
    found = misalignment(moments)
    assert found.beta == pytest.approx(1.0) and found.amplification == math.inf
