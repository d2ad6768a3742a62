"""Sums over groups of any size, wherever their rows stand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_batches import filled_up, responses

from maxent_rl.tokens.objectives.grouping import Grouping

INDEX = np.array([4, 4, 9, 4, 9, 2, 9, 4])  # groups of four, three and one
REWARDS = np.array([1.0, 0, 3, 1, np.nan, 5, 1, 2], np.float32)
ANSWERS = np.array([7, 7, 7, -1, 7, 7, 1, -1])
_, BATCH = responses(
    group_size=1, group_index=INDEX, rewards=REWARDS, answers=ANSWERS, lengths=(5, 3, 4, 1, 2, 5, 3, 0)
)


@jax.jit
def found(batch):
    groups = Grouping.of(batch)
    unread = batch.answers < 0
    return {
        "valid": groups.valid,
        "size": groups.size,
        "first": groups.first,
        "mean": groups.mean(batch.rewards),
        "deviation": groups.deviation(batch.rewards),
        "agreeing": groups.agreeing(batch.answers),
        "apart": groups.agreeing(batch.answers, unread),
    }


@pytest.mark.slow
def test_numbers_by_hand():
    """The response without a reward, and the row without a token, count nowhere."""
    values = found(BATCH)
    np.testing.assert_array_equal(values["valid"], [1, 1, 1, 1, 0, 1, 1, 0])
    np.testing.assert_array_equal(values["size"], [3, 3, 2, 3, 0, 1, 2, 0])
    np.testing.assert_array_equal(values["first"], [1, 0, 1, 0, 0, 1, 0, 0])
    np.testing.assert_allclose(values["mean"], [2 / 3, 2 / 3, 2, 2 / 3, 0, 5, 2, 0], rtol=1e-6)
    np.testing.assert_allclose(values["deviation"], [3**-0.5, 3**-0.5, 2**0.5, 3**-0.5, 0, 0, 2**0.5, 0], rtol=1e-6)
    np.testing.assert_array_equal(values["agreeing"], [2, 2, 1, 1, 0, 1, 1, 0])


@pytest.mark.slow
def test_what_cannot_be_read_may_agree_with_nobody():
    answers = jnp.array([-1, -1, -1, 3, 3, 3, 0, 0])
    _, batch = responses(answers=answers)
    values = found(batch)
    np.testing.assert_array_equal(values["agreeing"], [3, 3, 3, 1, 2, 2, 2, 2])
    np.testing.assert_array_equal(values["apart"], [1, 1, 1, 1, 2, 2, 2, 2])


@pytest.mark.slow
def test_rows_that_are_filled_up_change_nothing():
    wide = filled_up(BATCH, above=3, left=1)
    for name, values in found(wide).items():
        np.testing.assert_array_equal(values[3:], found(BATCH)[name], err_msg=name)


def test_equal_values_deviate_by_nothing():
    _, batch = responses(rewards=jnp.full(8, 0.1))
    assert np.all(found(batch)["deviation"] == 0)
