"""How often a policy visits each pair, on two pairs that can be worked out by hand."""

import math

import numpy as np
import pytest

from maxent_rl.tabular.occupancy import occupancy, tabular_coverage

GAMMA = 0.75
FIRST = np.array([1.0, 0.0])


def test_a_pair_that_is_left_at_once_is_visited_once_and_the_other_ever_after():
    found = occupancy(np.array([[0.0, 1.0], [0.0, 1.0]]), FIRST, GAMMA)
    np.testing.assert_allclose(found, [1 - GAMMA, GAMMA], atol=1e-12)


def test_where_episodes_end_the_shares_sum_to_less_than_one():
    found = occupancy(np.array([[0.0, 1.0], [0.0, 0.0]]), FIRST, GAMMA)
    np.testing.assert_allclose(found, [1 - GAMMA, (1 - GAMMA) * GAMMA], atol=1e-12)


def test_coverage_is_the_largest_and_the_mean_ratio_of_what_is_wanted_to_what_is_there():
    target = np.array([0.25, 0.75])
    assert tabular_coverage(target, target) == pytest.approx((1.0, 1.0, 0.0))
    assert tabular_coverage(target, np.array([0.5, 0.5])) == pytest.approx((1.5, 1.25, 0.0))
    assert tabular_coverage(target, np.array([1.0, 0.0])) == pytest.approx((math.inf, math.inf, 0.75))
