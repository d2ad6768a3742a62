"""Quantile regression: numbers by hand, its derivative against differentiation, and where it leads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.closeness import assert_close, rounding

from maxent_rl.losses import (
    huber,
    kept_quantiles,
    mean_quantile_huber_loss,
    quantile_huber_loss,
    quantile_midpoints,
    soft_bellman_target,
    soft_quantile_target,
)

QUANTILES, TARGET = jnp.array([0.0, 1.0]), jnp.array([0.5, 3.0])


def by_definition(quantiles, target, delta=1.0):
    """The formula as the paper has it, entry by entry."""
    total = 0.0
    for index, level in enumerate(quantile_midpoints(quantiles.shape[-1])):
        error = target - quantiles[index]
        total += jnp.mean(jnp.abs(level - (error < 0)) * huber(error, delta))
    return total


def test_midpoints():
    np.testing.assert_allclose(quantile_midpoints(4), [0.125, 0.375, 0.625, 0.875])


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_two_quantiles_by_hand(wrap):
    """(0.25 x 0.125 + 0.25 x 2.5) / 2 of the first and (0.25 x 0.125 + 0.75 x 1.5) / 2 of the second."""
    loss, slope = wrap(jax.value_and_grad(quantile_huber_loss))(QUANTILES, TARGET)
    np.testing.assert_allclose(loss, 0.328125 + 0.578125, rtol=1e-6)
    np.testing.assert_allclose(slope, [-0.1875, -0.3125], rtol=1e-6)


def test_one_quantile_is_half_the_huber_loss():
    for error in (-3.0, 0.2, 5.0):
        np.testing.assert_allclose(quantile_huber_loss(jnp.zeros(1), jnp.array([error])), huber(error) / 2, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("delta", [0.3, 1.0, 5.0])
def test_value_and_slope_are_those_of_the_definition(delta):
    keys = jax.random.split(jax.random.key(0))
    quantiles, target = 2 * jax.random.normal(keys[0], (6, 5)), 2 * jax.random.normal(keys[1], (6, 7))
    loss, slope = jax.vmap(jax.value_and_grad(lambda *each: quantile_huber_loss(*each, delta)))(quantiles, target)
    wanted, wanted_slope = jax.vmap(jax.value_and_grad(lambda *each: by_definition(*each, delta)))(quantiles, target)
    assert_close((loss, slope), (wanted, wanted_slope))
    assert_close(quantile_huber_loss(quantiles, target, delta), wanted)


def test_target_and_delta_are_constant():
    in_target, in_delta = jax.grad(quantile_huber_loss, argnums=(1, 2))(QUANTILES, TARGET, 1.0)
    assert in_delta == 0.0
    np.testing.assert_array_equal(in_target, [0, 0])


def test_descent_leads_to_the_quantiles():
    """Of values 0, 0, 0, 10: the levels 1/8, 3/8 and 5/8 are at 0, and 7/8 at 10."""
    target = jnp.array([0.0, 0.0, 0.0, 10.0])
    slope = jax.grad(lambda quantiles: quantile_huber_loss(quantiles, target, 0.05))

    def descend(_, quantiles):
        return quantiles - 2.0 * slope(quantiles)

    found = jax.lax.fori_loop(0, 1_000, descend, jnp.full(4, 4.0))
    np.testing.assert_allclose(found, [0, 0, 0, 10], atol=0.1)


CRITICS = jnp.array([[[1.0, 3.0, 5.0]], [[2.0, 4.0, 9.0]]])  # [critic, batch, quantile]
Y = jnp.array([2.287, 3.277, 4.267, 5.257])
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])


@wraps
def test_pooled_quantiles_less_the_largest(wrap):
    np.testing.assert_array_equal(wrap(lambda each: kept_quantiles(each, 2))(CRITICS), [[1, 2, 3, 4]])
    np.testing.assert_array_equal(wrap(lambda each: kept_quantiles(each, 0))(CRITICS), [[1, 2, 3, 4, 5, 9]])


@wraps
def test_soft_targets_by_hand(wrap):
    kept = kept_quantiles(CRITICS, 2)
    target = wrap(soft_quantile_target)
    found = target(jnp.ones(1), 0.99, jnp.zeros(1), kept, jnp.array([-1.5]), 0.2)
    np.testing.assert_allclose(found, Y[None], rtol=1e-6)
    np.testing.assert_array_equal(target(jnp.ones(1), 0.99, jnp.ones(1), kept, jnp.array([-1.5]), 0.2), np.ones((1, 4)))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
def test_the_mean_loss_by_hand(wrap):
    found = wrap(lambda quantiles: mean_quantile_huber_loss(quantiles, Y))(CRITICS[:, 0])
    np.testing.assert_allclose(found, [0.297325, 0.431322], atol=1e-5)
    np.testing.assert_allclose(jnp.mean(found), 0.364324, atol=1e-5)


def test_soft_targets_are_constant():
    slopes = jax.grad(lambda *each: jnp.sum(soft_quantile_target(*each)), argnums=range(6))(
        1.0, 0.99, 0.0, jnp.arange(3.0), -1.5, 0.2
    )
    assert all(not np.any(slope) for slope in slopes)


def test_one_quantile_of_two_critics_of_which_the_smaller_is_kept_is_the_target_of_sac():
    found = soft_quantile_target(1.0, 0.99, 0.0, kept_quantiles(jnp.array([[12.0], [10.0]]), 1), -3.0, 0.2)
    np.testing.assert_allclose(found, soft_bellman_target(1.0, 0.99, 0.0, 10.0, -3.0, 0.2)[None], rtol=1e-6)


@settings(max_examples=30)
@given(order=st.permutations(range(6)), shift=st.floats(-50, 50, width=32))
def test_critics_and_quantiles_may_change_places_and_shifts_are_discounted(order, shift):
    pool = CRITICS.reshape(6)
    shuffled = kept_quantiles(pool[jnp.array(order)].reshape(2, 1, 3), 2)
    np.testing.assert_array_equal(shuffled, kept_quantiles(CRITICS, 2))
    moved = soft_quantile_target(jnp.ones(1), 0.99, jnp.zeros(1), shuffled + shift, jnp.array([-1.5]), 0.2)
    np.testing.assert_allclose(moved, Y[None] + 0.99 * shift, rtol=0, atol=60 * rounding(8))


@pytest.mark.slow
def test_one_target_is_met_by_all_quantiles():
    loss, slope = jax.value_and_grad(mean_quantile_huber_loss)(jnp.full(3, 2.5), jnp.array([2.5]))
    assert loss == 0.0 and not np.any(slope)
    assert mean_quantile_huber_loss(jnp.array([2.5, 2.5, 2.6]), jnp.array([2.5])) > 0.0


def test_a_nan_is_kept():
    broken = CRITICS.at[1, 0, 0].set(jnp.nan)
    assert np.isnan(kept_quantiles(broken, 2)).any() and np.isnan(kept_quantiles(broken, 0)).any()


@pytest.mark.parametrize("dropped", [-1, 6])
def test_something_has_to_be_left(dropped):
    with pytest.raises(ValueError, match="from 0 to 5 of 6"):
        kept_quantiles(CRITICS, dropped)
