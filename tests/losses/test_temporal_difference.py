"""Temporal differences: numbers by hand, gradients, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxent_rl.losses import bellman_target, double_q_value, huber, taken_value, temporal_difference_loss

VALUES = jnp.array([[1.0, 3.0, 2.0], [5.0, 4.0, 6.0]])
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])


@wraps
def test_a_target_goes_on_through_truncation_and_ends_with_termination(wrap):
    found = wrap(lambda terminated, next_value: bellman_target(1.0, 0.9, terminated, next_value))
    np.testing.assert_allclose(found(jnp.array([0.0, 1.0]), jnp.array([2.0, 2.0])), [2.8, 1.0], rtol=1e-6)


def test_a_target_is_constant():
    slopes = jax.grad(lambda *each: bellman_target(each[0], each[1], 0.0, each[2]), argnums=(0, 1, 2))(1.0, 0.9, 2.0)
    assert slopes == (0, 0, 0)


@wraps
def test_taken_values(wrap):
    np.testing.assert_array_equal(wrap(taken_value)(VALUES, jnp.array([1.0, 2.0])), [3.0, 6.0])
    np.testing.assert_array_equal(wrap(taken_value)(VALUES[:, None], jnp.array([[0, 2], [1, 1]])), [[1, 2], [4, 4]])


def test_what_is_not_taken_has_no_gradient_and_may_be_nan():
    values = VALUES.at[0, 0].set(jnp.nan)
    taken, slopes = jax.value_and_grad(lambda values: jnp.sum(taken_value(values, jnp.array([1, 0]))))(values)
    assert taken == 8.0
    np.testing.assert_array_equal(slopes, [[0, 1, 0], [1, 0, 0]])


@wraps
def test_double_q_values(wrap):
    """The second function's value of what the first finds best, among what is allowed."""
    valuing = 10.0 * VALUES[::-1]
    np.testing.assert_array_equal(wrap(double_q_value)(VALUES, valuing), [40.0, 20.0])
    selecting = jnp.where(jnp.array([[True, False, True], [True, True, False]]), VALUES, -jnp.inf)
    np.testing.assert_array_equal(wrap(double_q_value)(selecting, valuing), [60.0, 10.0])


@wraps
def test_huber_by_hand(wrap):
    np.testing.assert_allclose(wrap(huber)(jnp.array([0.5, 2.0, -1.0, 0.0])), [0.125, 1.5, 0.5, 0.0])
    np.testing.assert_allclose(wrap(lambda error: huber(error, 2.0))(jnp.array([-3.0, 1.0])), [4.0, 0.5])


@pytest.mark.slow
@given(error=st.floats(-1e3, 1e3, width=32), delta=st.floats(0.125, 8, width=32))
def test_hubers_slope_is_the_clipped_error(error, delta):
    np.testing.assert_allclose(jax.grad(huber)(error, delta), np.clip(error, -delta, delta), rtol=1e-5, atol=1e-6)


def test_hubers_slope_is_finite_where_the_square_overflows():
    assert jax.grad(huber)(-1e30) == -1.0


def test_the_loss_holds_its_target():
    slopes = jax.grad(temporal_difference_loss, argnums=(0, 1))(3.0, 2.5)
    assert slopes == (0.5, 0.0) and temporal_difference_loss(3.0, 2.5) == 0.125
