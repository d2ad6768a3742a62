"""Optimistic values and what following them costs: the sheet's numbers, limits, and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxent_rl.losses import optimistic_value, shift_divergence

finite = st.floats(-100, 100, width=32)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
def test_worked_example(wrap):
    """Check 4 of bro.md: pessimism of 0 and 1 (an optimism of -1), and an optimism of 1."""
    of = wrap(lambda optimism: optimistic_value(jnp.array([4.0, 3.0]), optimism))
    np.testing.assert_allclose([of(jnp.full(1, share))[0] for share in (0.0, -1.0, 1.0)], [3.5, 3.0, 4.0], rtol=1e-6)


@given(first=finite, second=finite)
def test_optimism_goes_from_the_least_to_the_greatest(first, second):
    values = jnp.array([first, second], jnp.float32)
    rounding = 4 * np.finfo(np.float32).eps * (abs(first) + abs(second)) + np.finfo(np.float32).tiny  # none below it
    for share, expected in ((-1.0, min(first, second)), (0.0, 0.5 * (first + second)), (1.0, max(first, second))):
        np.testing.assert_allclose(optimistic_value(values, share), expected, rtol=0, atol=rounding)


def test_quantiles_are_compared_level_by_level():
    """Crossed critics have a distance at each level, though their means are the same."""
    values = jnp.array([[0.0, 4.0], [1.0, 3.0]])
    np.testing.assert_allclose(optimistic_value(values, 1.0), [1.0, 4.0])


def test_divergence_of_a_shift():
    """Check 2 of bro.md: means of 0.2 and 0.5, a deviation of 0.5 (0.375 narrowed by 0.75); dimensions add up."""
    np.testing.assert_allclose(shift_divergence(jnp.array([0.3]), jnp.log(jnp.array([0.5]))), 0.18, rtol=1e-5)
    np.testing.assert_allclose(shift_divergence(jnp.full(3, 0.3), jnp.full(3, np.log(0.5))), 0.54, rtol=1e-5)


def test_divergence_pulls_back():
    shift, log_std = jnp.array([0.3, -1.0]), jnp.log(jnp.array([0.5, 2.0]))
    gradient = jax.grad(lambda shift: shift_divergence(shift, log_std))(shift)
    np.testing.assert_allclose(gradient, shift / jnp.array([0.25, 4.0]), rtol=1e-5)
