"""The natural gradient: what it takes for a direction, and that rounding is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl.agents.natural_gradient import conjugate_gradient, natural_step

TAKEN = jnp.array([0, 1, 2, 0])


def log_prob(logits):
    return jax.nn.log_softmax(logits)[TAKEN]


def step(gradient, size=0.0, damping=0.0):
    return natural_step(jnp.array(gradient), log_prob, jnp.zeros(3), 0.01, damping, 10, size)


def test_a_step_is_as_long_whatever_the_gradients_length():
    """It goes down the loss, along what is left of the gradient once no constant is in it."""
    long, short = step([1.0, -0.5, -0.5], damping=1e-3), step([1e-6, -5e-7, -5e-7], damping=1e-3)
    assert_close(short, long, 1e-4)
    assert long[0] < 0 < long[1]


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_a_gradient_that_may_be_rounding_moves_nothing(size):
    """Scaled to the length that a step has, noise would move the policy as far as a gradient."""
    gradient = 1e-7 * size * np.array([1.0, -0.5, -0.5], np.float32)
    assert np.all(step(gradient, size, damping=1e-3) == 0)
    assert np.any(step(100 * gradient, size, damping=1e-3) != 0)
    assert np.all(step(np.zeros(3, np.float32)) == 0)


@pytest.mark.parametrize("seed", range(5))
def test_along_a_direction_without_curvature_nothing_is_solved(seed):
    """Of a singular matrix the curvature there is rounding, of either sign, and a step over it has no bound."""
    factor = jax.random.normal(jax.random.key(seed), (6, 3))
    matrix = factor @ factor.T
    right = matrix @ jnp.arange(1.0, 7.0)
    found = conjugate_gradient(lambda x: matrix @ x, right, 30)
    assert_close(matrix @ found, right, 1e-3)
    shortest = jnp.linalg.lstsq(factor.T, factor.T @ jnp.arange(1.0, 7.0))[0]
    assert jnp.linalg.norm(found) < 2 * jnp.linalg.norm(shortest)
