"""Averages of weights: by hand, of copies, and of networks that cannot be averaged."""

import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.networks.soups import soup

ONE, OTHER = {"w": jnp.array([1.0, -2.0, 0.5])}, {"w": jnp.array([0.0, -1.0, 1.5])}


@pytest.mark.parametrize(("weights", "expected"), [(None, [0.5, -1.5, 1.0]), ((0.2, 0.8), [0.2, -1.2, 1.3])])
def test_the_worked_example(weights, expected):
    np.testing.assert_allclose(soup([ONE, OTHER], weights)["w"], expected, atol=1e-6)


def test_the_order_does_not_matter_and_the_average_of_copies_is_the_network():
    np.testing.assert_allclose(soup([OTHER, ONE], (0.7, 0.3))["w"], soup([ONE, OTHER], (0.3, 0.7))["w"], rtol=1e-6)
    np.testing.assert_allclose(soup([ONE] * 3)["w"], ONE["w"], rtol=3e-7)
    np.testing.assert_array_equal(soup([ONE, OTHER], (1.0, 0.0))["w"], ONE["w"])


def test_half_precision_is_averaged_in_single():
    halves = [{"w": jnp.full(1, value, jnp.bfloat16)} for value in (1.0, 1.0078125, 1.0)]
    assert soup(halves)["w"].dtype == jnp.bfloat16
    assert soup(halves, (0.25, 0.5, 0.25))["w"][0] == jnp.asarray(1.00390625, jnp.bfloat16)


def test_networks_of_different_shape_and_weights_that_are_no_shares_are_refused():
    with pytest.raises(ShapeError, match=r"network 1 has \(2,\) at \['w'\] where network 0 has \(3,\)"):
        soup([ONE, {"w": jnp.zeros(2)}])
    with pytest.raises(ShapeError, match=r"network 1 has nothing at \['w'\]"):
        soup([ONE, {}])
    with pytest.raises(InvalidSettingError, match="needs as many weights"):
        soup([ONE, OTHER], (0.5, 0.6))
    with pytest.raises(InvalidSettingError, match="at least one network"):
        soup([])
