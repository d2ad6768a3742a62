"""What counts as equal: differences of a few last bits, and none that are larger."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxent_rl.losses import apart, rounding_of, without_rounding

numbers = st.floats(-(2.0**100), 2.0**100, width=32).filter(lambda number: abs(number) > 2.0**-60)


def test_rounding_is_a_few_last_bits_of_the_size():
    np.testing.assert_allclose(rounding_of([1.0, -2.0, 0.0]), [4.76837e-7, 9.53674e-7, 0.0], rtol=1e-5)
    assert rounding_of(3) == rounding_of(3.0) and rounding_of(np.inf) == np.inf


@given(number=numbers)
def test_numbers_a_bit_apart_are_equal_and_others_are_not(number):
    number = np.float32(number)
    assert not apart(number, number) and not apart(number, np.nextafter(number, np.float32(np.inf)))
    assert apart(number, number * np.float32(1 + 1e-5)) and apart(number, -number) and apart(0.0, number)


def test_infinite_numbers_are_equal_to_themselves_alone():
    first, second = jnp.array([np.inf, -np.inf, np.inf, np.inf]), jnp.array([np.inf, -np.inf, -np.inf, 1e30])
    np.testing.assert_array_equal(apart(first, second), [False, False, True, True])


@pytest.mark.parametrize(("value", "kept"), [(3e-4, 0.0), (-3e-4, 0.0), (1e-2, 1e-2), (-1e-2, -1e-2), (0.0, 0.0)])
def test_without_rounding_a_difference_of_thousands_is_nothing_or_itself(value, kept):
    found, slope = jax.value_and_grad(without_rounding)(value, 1e3)
    assert found == np.float32(kept) and slope == 1.0
