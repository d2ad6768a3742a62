"""Weights that are moved without a gradient: by hand, their bounds, and where they settle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.losses import proportional_weight, stepped_weight

wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])


@wraps
@pytest.mark.parametrize(
    ("measured", "expected"),
    [(6.6, 0.2 * 1.00256), (6.0, 0.2), (60.0, 0.2 * 1.00512), (1.0, 0.2 * 0.99488), (-3.0, 0.2 * 0.99488)],
)
def test_the_proportional_rule_by_hand(wrap, measured, expected):
    """256 responses of a horizon of 10,000: a tenth too much, none, and errors that are held at a fifth."""
    np.testing.assert_allclose(wrap(proportional_weight)(0.2, measured, 6.0, 256, 10_000), expected, rtol=1e-6)
    assert jax.grad(lambda x: proportional_weight(0.2, x, 6.0, 256))(measured) == 0


@wraps
@pytest.mark.parametrize(
    ("weight", "measured", "expected"), [(0.1, 0.15, 0.105), (0.1, 0.2, 0.1), (0.1, 0.3, 0.095), (0.003, 9.0, 0.0)]
)
def test_the_stepped_rule_by_hand(wrap, weight, measured, expected):
    np.testing.assert_allclose(wrap(stepped_weight)(weight, jnp.float32(measured), jnp.float32(0.2), 0.005), expected)
    assert stepped_weight(0.998, 0.1, 0.2, 0.005, 1.0) == 1.0


def test_a_divergence_that_falls_with_its_weight_comes_to_the_target():
    """Of 0.5 / weight the weight that holds 2 nats is 0.25."""
    weight = jnp.float32(1.0)
    move = jax.jit(lambda weight: proportional_weight(weight, 0.5 / weight, 2.0, 500, 1_000))
    for _ in range(100):
        weight = move(weight)
    np.testing.assert_allclose(weight, 0.25, rtol=1e-4)
