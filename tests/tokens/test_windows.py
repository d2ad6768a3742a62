"""Means over neighbouring tokens."""

import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl.tokens.windows import window_means

ENTROPY = [0.1, 0.2, 1.5, 1.2, 0.9, 0.1, 0.1, 2.0, 0.1, 0.1]
FROM_EACH = [0.75, 0.95, 0.925, 0.575, 0.775, 0.575, 0.575]  # ARES, example C


@pytest.mark.parametrize(("after", "means"), [(False, FROM_EACH), (True, FROM_EACH[1:])])
def test_the_numbers_of_the_example(after, means):
    found, whole = window_means(jnp.array([ENTROPY]), jnp.ones((1, 10), bool), 4, after)
    np.testing.assert_array_equal(whole[0], np.arange(10) < len(means))
    assert_close(found[0, : len(means)], np.array(means))


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_masked_places_are_passed_over(after):
    values, mask = np.full((1, 16), np.nan, np.float32), np.zeros((1, 16), bool)
    places = [1, 2, 4, 5, 6, 9, 10, 11, 12, 15]
    values[0, places], mask[0, places] = ENTROPY, True
    found, whole = window_means(values, mask, 4, after)
    plain, plain_whole = window_means(jnp.array([ENTROPY]), jnp.ones((1, 10), bool), 4, after)
    np.testing.assert_array_equal(found[0, places], plain[0])
    np.testing.assert_array_equal(whole[0, places], plain_whole[0])
    assert not np.any(whole[~mask]) and np.all(found[~mask] == 0)


@pytest.mark.slow
def test_short_responses_have_no_window():
    mask = jnp.arange(5) < jnp.array([0, 1, 3])[:, None]
    found, whole = window_means(jnp.full((3, 5), 0.5), mask, 4)
    assert not whole.any() and np.all(found == 0)
    found, whole = window_means(jnp.full((3, 5), 0.5), mask, 1)
    np.testing.assert_array_equal(found, 0.5 * mask)
    assert window_means(jnp.ones((1, 2)), jnp.ones((1, 2)), 9)[0].shape == (1, 2)
