"""Items are worth something until there are enough of their kind."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.set_functions import ItemCollection, Table

LIMITS, COPIES = (3, 2, 3, 4, 6, 3), (18, 14, 13, 16, 18, 14)
KINDS = np.random.default_rng(3).permutation(np.repeat(np.arange(-1, 6), (105 - sum(COPIES), *COPIES)))
SHEET = ItemCollection(Table(KINDS), Table(LIMITS))


def test_by_hand():
    function = ItemCollection(Table([0, 0, 0, 1, -1]), Table([2, 1]))
    assert function.marginal_gains(jnp.array([0, 0, 4, 1, 2, 3, 3])).tolist() == [1, 0, 0, 1, 0, 1, 0]


@pytest.mark.slow
@settings(max_examples=20)
@given(visited=st.lists(st.integers(0, 104), min_size=41, max_size=41))
def test_no_walk_of_the_sheets_task_collects_more_than_21(visited):
    assert float(SHEET.marginal_gains(np.array(visited)).sum()) <= 21


@pytest.mark.slow
def test_everything_is_worth_21_in_the_sheets_task():
    assert SHEET.value(np.arange(105)) == SHEET.marginal_gains(np.arange(105)).sum() == 21


def test_summary_is_the_share_of_what_is_wanted():
    function = ItemCollection(Table([0, 0, 0, 1, -1]), Table([2, 4]))
    memory = function.empty()
    for element in (0, 3, 3):
        memory, _ = function.add(memory, jnp.int32(element))
    assert function.summary(memory).tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("items", "limits", "error", "message"),
    [
        ([0], [-1], InvalidSettingError, "limits of an item collection must be at least 0.*number 0 is -1"),
        ([0, 2], [1, 1], InvalidSettingError, "kind 2, but there are limits for kinds 0 to 1 only"),
        ([0], [1.5], ShapeError, "limits of an item collection must be whole numbers"),
        ([[0]], [1], ShapeError, r"items must be whole numbers \[element\]"),
    ],
)
def test_what_is_refused(items, limits, error, message):
    with pytest.raises(error, match=message):
        ItemCollection(Table(items), Table(limits))
