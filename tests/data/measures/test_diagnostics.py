"""Diagnostics estimated from data sets of known processes, against their exact values."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.measures import bellman
from maxent_rl.data.measures.diagnostics import diagnose
from maxent_rl.data.measures.policy_features import ActionProbabilities, SampledActions, TabularFeatures, featurize
from maxent_rl.errors import DataError, InvalidSettingError
from maxent_rl.tabular.occupancy import occupancy, tabular_coverage

STATES, ACTIONS, D, GAMMA = 4, 2, 3, 0.8
RNG = np.random.default_rng(0)
NEXT = RNG.dirichlet(np.ones(STATES), size=(STATES, ACTIONS))
PI = RNG.dirichlet(np.ones(ACTIONS), size=STATES)
BEHAVIOUR = RNG.dirichlet(np.ones(ACTIONS), size=STATES)
PHI = RNG.normal(size=(STATES, ACTIONS, D))
THETA = np.array([1.0, -0.5, 0.3])
FLAT = PHI.reshape(-1, D)
TRANSITION = np.einsum("sat,tb->satb", NEXT, PI).reshape(STATES * ACTIONS, -1)
REWARD = ((FLAT - GAMMA * TRANSITION @ FLAT) @ THETA).reshape(STATES, ACTIONS)


def features(observation, action):
    return PHI[observation[:, 0].astype(int), action]


POLICY = ActionProbabilities(lambda observation: PI[observation[:, 0].astype(int)])


def play(policy, episodes=60, length=100, seed=0, reward=REWARD, jitter=0.0):
    """Episodes that a time limit cuts. With jitter observations are all different, and mean the same."""
    rng = np.random.default_rng(seed)
    state = rng.integers(0, STATES, episodes)
    states, actions = [state], []
    for _ in range(length):
        action = (rng.random(episodes) > policy[state, 0]).astype(int)
        state = (rng.random((episodes, 1)) > NEXT[state, action].cumsum(axis=1)).sum(axis=1).clip(max=STATES - 1)
        actions.append(action), states.append(state)
    seen, action = np.stack(states, axis=1).astype(np.float32), np.stack(actions, axis=1).ravel().astype(np.int32)
    seen += jitter * rng.random(seen.shape, np.float32)
    observation, following = seen[:, :-1].reshape(-1, 1), seen[:, 1:].reshape(-1, 1)
    truncated = np.tile(np.arange(length) == length - 1, episodes)
    rewards = reward[observation[:, 0].astype(int), action].astype(np.float32)
    return Dataset(observation, action, rewards, following, np.zeros(len(action), bool), truncated)


def exact(data, discount=GAMMA):
    pairs = data.observation[:, 0].astype(int) * ACTIONS + data.action
    mu = np.bincount(pairs, minlength=STATES * ACTIONS) / len(pairs)
    return bellman.exact_moments(FLAT, TRANSITION, mu, REWARD.ravel(), discount)


@pytest.fixture(scope="module")
def data():
    return play(BEHAVIOUR)


def test_estimates_come_near_the_exact_numbers_and_intervals_hold_them(data):
    found, moments = diagnose(data, features, POLICY, GAMMA, bootstrap=100), exact(data)
    assert found.how.startswith("means of each pair over its other samples, on the 100.0%")
    assert (found.n, found.d, found.n_over_d) == (6000, D, 2000.0)
    right = bellman.misalignment(moments)
    assert found.beta == pytest.approx(right.beta, abs=0.05)
    assert found.ibe_unit == pytest.approx(bellman.inherent_error(moments).unit, abs=0.05)
    assert found.td_min_real_eig == pytest.approx(bellman.stability(moments).smallest_real, abs=0.05)
    np.testing.assert_allclose(found.theta, THETA, atol=0.1)
    for name, value in {"beta": right.beta, "coverage_min_eig": found.coverage_min_eig}.items():
        low, high = found.intervals[name]
        assert low <= value <= high
    assert found.predicted_error == pytest.approx(
        bellman.predicted_error(
            found.concentrability, found.amplification, D, 6000, GAMMA, np.ptp(data.reward) / (1 - GAMMA)
        )
    )


def test_single_next_states_in_place_of_means_read_as_misalignment(data):
    right = bellman.misalignment(exact(data)).beta
    naive = diagnose(data, features, POLICY, GAMMA, transitions="deterministic", bootstrap=0)
    assert "deterministic" in naive.how and naive.intervals == {}
    assert naive.beta > right + 0.03 > diagnose(data, features, POLICY, GAMMA, bootstrap=0).beta


def test_pairs_that_never_come_again_are_regressed():
    """The features are linear in m within products of features of so few pairs."""
    data = play(BEHAVIOUR, jitter=0.9)
    found = diagnose(data, features, POLICY, GAMMA, bootstrap=0)
    assert "cross-fitted" in found.how and found.n == data.size
    assert found.beta == pytest.approx(bellman.misalignment(exact(data)).beta, abs=0.1)


def test_a_table_is_complete_up_to_the_ridge(data):
    table = TabularFeatures(data)
    assert table.size == STATES * ACTIONS
    found = diagnose(data, table, POLICY, GAMMA, bootstrap=0)
    assert found.beta < 1e-3 and found.ibe_unit < 1e-3 and found.realizability_residual < 3 * found.residual_noise
    np.testing.assert_allclose(table.shares(data).sum(), 1.0)
    other = table(np.full((1, 1), 9.0), np.zeros(1, np.int32))
    assert other.sum() == 0


def test_coverage_by_data_of_the_policy(data):
    theirs = play(PI, seed=1)
    found = diagnose(data, features, POLICY, GAMMA, target=theirs, bootstrap=0)
    assert found.concentrability_from == "data of the policy"
    start = (PI / STATES).ravel()
    wanted = bellman.exact_moments(FLAT, TRANSITION, occupancy(TRANSITION, start, GAMMA), REWARD.ravel(), GAMMA)
    assert found.concentrability == pytest.approx(bellman.concentrability(wanted.full, exact(data).full), rel=0.15)
    table = TabularFeatures(data)
    ratio = tabular_coverage(table.shares(theirs, GAMMA), table.shares(data))
    assert found.concentrability <= ratio.largest_ratio * 1.1
    itself = diagnose(theirs, features, POLICY, 0.0, target=theirs, bootstrap=0)
    assert itself.concentrability >= 1 - 1e-6


def test_coverage_one_step_ahead_where_nothing_else_is_known(data):
    found = diagnose(data, features, POLICY, GAMMA, bootstrap=0)
    samples = featurize(data, features, POLICY)
    ratio = np.linalg.eigvals(np.linalg.solve(samples.phi.T @ samples.phi, samples.phi2.T @ samples.phi2)).real.max()
    assert found.concentrability_from == "one step ahead" and found.concentrability == pytest.approx(ratio, rel=1e-5)


def test_values_outside_the_class_leave_a_residual(data):
    inside = diagnose(data, features, POLICY, GAMMA, bootstrap=0)
    reward = np.random.default_rng(5).normal(size=REWARD.shape)
    outside = diagnose(play(BEHAVIOUR, reward=reward), features, POLICY, GAMMA, bootstrap=0)
    assert inside.realizability_residual < 2 * inside.residual_noise
    assert outside.realizability_residual > 5 * outside.residual_noise


def test_a_change_of_features_changes_nothing_but_units(data):
    turn = np.array([[1.0, 2.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 1.0]])
    plain = diagnose(data, features, POLICY, GAMMA, bootstrap=0)
    turned = diagnose(data, lambda *pair: features(*pair) @ turn, POLICY, GAMMA, bootstrap=0)
    for name in ("beta", "amplification", "ibe_relative", "concentrability", "td_min_singular", "predicted_error"):
        assert getattr(turned, name) == pytest.approx(getattr(plain, name), rel=1e-4), name
    # The same functions; only their products span another class.
    np.testing.assert_allclose(turn @ turned.theta, plain.theta, rtol=1e-4)


def test_sampled_actions_give_nearly_what_probabilities_give(data):
    def sample(observation, rng):
        return (rng.random(len(observation)) > PI[observation[:, 0].astype(int), 0]).astype(np.int32)

    drawn = diagnose(data, features, SampledActions(sample, count=8), GAMMA, bootstrap=0)
    assert drawn.beta == pytest.approx(diagnose(data, features, POLICY, GAMMA, bootstrap=0).beta, abs=0.03)


def test_an_end_has_no_future_and_a_time_limit_has_one(data):
    samples = featurize(data, features, POLICY)
    assert np.abs(samples.phi2[data.truncated]).min() > 0
    ended = dataclasses.replace(data, terminated=data.truncated, truncated=data.terminated)
    assert not featurize(ended, features, POLICY).phi2[data.truncated].any()


def test_pairs_seen_once_are_left_out_where_most_are_seen_again():
    data = play(BEHAVIOUR, episodes=3, length=20)
    observation = data.observation.copy()
    observation[7] += 0.5  # a pair of its own
    found = featurize(dataclasses.replace(data, observation=observation), features, POLICY)
    assert len(found.phi) == 59 and "98.3%" in found.how
    key = data.observation[:, 0].astype(int) * ACTIONS + data.action
    others = (key == key[0]) & (np.arange(60) > 0) & (np.arange(60) != 7)
    np.testing.assert_allclose(found.right[0], featurize(data, features, POLICY).phi2[others].mean(axis=0))


def test_the_table_names_every_number_with_its_interval(data):
    text = diagnose(data, features, POLICY, GAMMA, bootstrap=20).table()
    for name in ("n_over_d", "realizability_residual", "beta", "concentrability_from", "predicted_error", "how"):
        assert name in text
    assert " to " in next(line for line in text.splitlines() if line.startswith("beta"))


def test_a_single_episode_has_numbers_and_no_intervals():
    found = diagnose(play(BEHAVIOUR, episodes=1, length=400), features, POLICY, GAMMA)
    assert found.intervals == {} and 0 <= found.beta <= 1 and math.isfinite(found.realizability_residual)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"discount": 1.0}, InvalidSettingError, "discount must be at least 0 and less than 1, got 1"),
        ({"features": lambda o, a: np.ones(len(a))}, DataError, r"must be of shape \[6000, d\]"),
        ({"features": lambda o, a: np.full((len(a), 2), np.nan)}, DataError, "finite numbers"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused(data, change, error, message):
    with pytest.raises(error, match=message):
        diagnose(**({"data": data, "features": features, "policy": POLICY, "discount": GAMMA} | change))
