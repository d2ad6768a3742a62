"""Quantile regression: numbers by hand, its derivative against differentiation, and where it leads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl.losses import huber, quantile_huber_loss, quantile_midpoints

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
