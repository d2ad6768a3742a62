"""Losses of offline agents for continuous actions: worked numbers, limits, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close

from maxent_rl import losses


@pytest.mark.parametrize(
    ("error", "expectile", "expected"), [(2.0, 0.7, 2.8), (-2.0, 0.7, 1.2), (0.0, 0.9, 0.0), (-1.0, 0.9, 0.1)]
)
def test_expectile_loss_by_hand(error, expectile, expected):
    assert_close(jax.jit(losses.expectile_loss)(error, expectile), expected)


@given(st.floats(-10, 10))
def test_expectile_of_one_half_is_half_the_squared_error(error):
    np.testing.assert_allclose(losses.expectile_loss(error, 0.5), 0.5 * error**2, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize(("expectile", "expected"), [(0.5, 1.5), (0.9999, 4.0), (0.0001, 0.0)])
def test_the_minimiser_goes_from_the_least_over_the_mean_to_the_maximum(expectile, expected):
    seen, grid = jnp.array([0.0, 1.0, 1.0, 4.0]), jnp.linspace(-1, 5, 6001)
    loss = jnp.sum(losses.expectile_loss(seen - grid[:, None], expectile), axis=1)
    np.testing.assert_allclose(grid[jnp.argmin(loss)], expected, atol=0.01)


def test_gradient_of_the_expectile_loss_agrees_with_finite_differences():
    for error in (-1.5, 0.7):
        found = jax.grad(losses.expectile_loss)(error, 0.8)
        around = [losses.expectile_loss(error + sign * 1e-2, 0.8) for sign in (-1, 1)]
        np.testing.assert_allclose(found, (around[1] - around[0]) / 2e-2, rtol=1e-3)


def test_advantage_weights_by_hand_are_clipped_and_constant():
    weight = losses.advantage_weight(jnp.array([0.0, 1.0, 2.0, 1e6, -1e6]), 3.0, 100.0)
    np.testing.assert_allclose(weight, [1.0, np.exp(3.0), 100.0, 100.0, 0.0], rtol=1e-5)
    np.testing.assert_array_equal(jax.grad(lambda a: jnp.sum(losses.advantage_weight(a, 3.0, 100.0)))(jnp.ones(3)), 0.0)
    np.testing.assert_array_equal(losses.advantage_weight(jnp.array([-5.0, 5.0]), 0.0, 100.0), 1.0)


def test_behavior_regularized_loss_by_hand():
    """The mean size of 2 and -6 is 4, so that lambda is 2.5 / 4."""
    loss = losses.behavior_regularized_loss(jnp.array([2.0, -6.0]), jnp.array([0.1, 0.3]), 2.5, 1.0)
    np.testing.assert_allclose(loss, [0.1 - 1.25, 0.3 + 3.75], rtol=1e-6)


@given(st.floats(0.01, 1e4))
def test_behavior_regularized_loss_knows_no_scale_of_rewards(scale):
    q, distance = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.2, 0.1, 0.0])
    one, other = (losses.behavior_regularized_loss(factor * q, distance, 2.5, 0.5) for factor in (1.0, scale))
    np.testing.assert_allclose(one, other, rtol=1e-4)


def test_the_scale_of_values_is_held_constant_and_values_of_zero_are_finite():
    q = jnp.array([2.0, -6.0])
    gradient = jax.grad(lambda q: jnp.sum(losses.behavior_regularized_loss(q, jnp.zeros(2), 1.0, 1.0)))(q)
    np.testing.assert_allclose(gradient, -0.25)
    np.testing.assert_array_equal(losses.behavior_regularized_loss(jnp.zeros(2), jnp.ones(2), 2.5, 1.0), 1.0)


def test_smoothed_actions_are_clipped_twice():
    found = losses.smoothed_action(jnp.array([0.0, 0.0, 0.9, -0.9]), jnp.array([1.0, -10.0, 10.0, 1.0]), 0.2, 0.5)
    np.testing.assert_allclose(found, [0.2, -0.5, 1.0, -0.7], rtol=1e-6)


def test_soft_maximum_by_hand():
    """(e^1 / 0.5 + e^0 / 0.25) / 2 = e + 2."""
    found = losses.sampled_soft_maximum(jnp.array([1.0, 0.0]), jnp.log(jnp.array([0.5, 0.25])))
    assert_close(found, np.log(np.e + 2.0))


def test_soft_maximum_of_equal_values_is_the_value_plus_the_log_volume():
    density = jnp.full((30, 4), -2 * np.log(2.0))
    assert_close(losses.sampled_soft_maximum(jnp.full((30, 4), 3.0), density), np.full(4, 3.0 + 2 * np.log(2.0)))


def test_soft_maximum_estimates_the_integral():
    """The integral of exp(2 a) over [-1, 1] is sinh 2."""
    action = jax.random.uniform(jax.random.key(0), (200_000,), minval=-1, maxval=1)
    found = losses.sampled_soft_maximum(2 * action, -np.log(2.0))
    np.testing.assert_allclose(found, np.log(np.sinh(2.0)), atol=0.01)


def test_conservative_gap_pushes_sampled_values_down_and_those_of_the_data_up():
    q, density, data_q = jnp.array([[1.0], [0.0]]), jnp.log(jnp.array([[0.5], [0.25]])), jnp.array([0.5])

    def gap(q, density, data_q):
        return losses.sampled_conservative_gap(q, density, data_q)[0]

    assert_close(gap(q, density, data_q), np.log(np.e + 2.0) - 0.5)
    sampled, constant, data = jax.grad(gap, argnums=(0, 1, 2))(q, density, data_q)
    share = np.e / (np.e + 2.0)
    np.testing.assert_allclose(sampled, [[share], [1.0 - share]], rtol=1e-5)
    np.testing.assert_array_equal(constant, 0.0)
    np.testing.assert_array_equal(data, -1.0)


def test_conservative_gap_is_finite_where_values_are_huge():
    found = losses.sampled_conservative_gap(jnp.array([1e4, -1e4]), jnp.zeros(2), 0.0)
    np.testing.assert_allclose(found, 1e4 - np.log(2.0), rtol=1e-6)
