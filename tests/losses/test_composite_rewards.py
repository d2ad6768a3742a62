"""Composite rewards, boxes and groups that teach: the sheet's numbers, gates and edges."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl import losses

WEIGHTS = (0.1, 0.3, 0.6)


def test_worked_rewards():
    """And the advantages of a group of them."""
    form, kind, parameter = np.float32([(1, 1, 1), (1, 1, 0.5), (1, 1, 0), (1, 0, 1), (0, 1, 1)]).T
    found = jax.jit(losses.gated_reward)(form, kind, parameter)
    np.testing.assert_allclose(found, [1.0, 0.7, 0.4, 0.1, 0.0], atol=1e-6)
    group = losses.group_advantages(jnp.array([[1, 0.4, 0.1, 1, 0.4, 0.1, 0, 0.4]]))[0]
    expected = [1.481118, -0.064396, -0.837153, 1.481118, -0.064396, -0.837153, -1.094739, -0.064396]
    np.testing.assert_allclose(group, expected, atol=2e-6)


def test_a_reward_is_within_its_bounds_and_monotone_and_1_where_all_is_right():
    grid = np.float32(list(itertools.product(np.linspace(0, 1, 5), repeat=3)))
    found = np.asarray(losses.gated_reward(*grid.T)).reshape(5, 5, 5)
    assert found.min() == 0 and found.max() <= 1 + 1e-6 and np.sum(found > 1 - 1e-6) == 1
    assert all(np.all(np.diff(found, axis=axis) >= 0) for axis in range(3))
    assert np.all(found[0] == 0) and np.all(found[-1, 0] == np.float32(0.1))


def test_what_lies_behind_a_closed_gate_never_matters():
    """Neither in the reward nor in its gradient."""
    for form, kind in ((0.0, np.nan), (1.0, 0.0)):
        value, slope = jax.value_and_grad(losses.gated_reward)(form, kind, np.nan)
        assert value == np.float32(0.1 * form) and np.isfinite(slope)


def test_answers_are_worth_what_the_judge_says():
    found = losses.judged_reward(np.float32([1, 1, 1, 0]), np.float32([1, 0.5, 0, np.nan]))
    np.testing.assert_allclose(found, [1.0, 0.55, 0.1, 0.0], atol=1e-6)


def test_points_on_the_edge_are_inside():
    box = np.float32([1, 2, 3, 4])
    points = np.float32([(1, 2), (3, 4), (1, 4), (2, 3), (0.99, 3), (2, 4.01), (5, 5)])
    assert np.asarray(losses.point_in_box(points, box)).tolist() == [1, 1, 1, 1, 0, 0, 0]
    near = losses.point_closeness(np.float32([(2, 3), (3, 3), (2, 5)]), box, 2.0)
    np.testing.assert_allclose(near, np.exp([0, -1 / 8, -4 / 8]), rtol=1e-6)


def test_worked_overlaps():
    first = np.float32([[0, 0, 4, 4], [10, 10, 50, 50], [0, 0, 1, 1], [0, 0, 2, 2], [3, 3, 3, 9], [2, 2, 1, 1]])
    second = np.float32([[2, 2, 6, 6], [20, 10, 60, 50], [2, 2, 3, 3], [0, 0, 2, 2], [3, 3, 3, 9], [0, 0, 5, 5]])
    for one, other in ((first, second), (second, first)):
        found = jax.jit(losses.intersection_over_union)(one, other)
        np.testing.assert_allclose(found, [0.142857, 0.6, 0.0, 1.0, 0.0, 0.0], atol=1e-6)
    slope = jax.grad(lambda box: jnp.sum(losses.intersection_over_union(box, second)))(first)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("seed", [0])
def test_overlaps_are_the_share_of_cells(seed):
    """Of whole numbers, counted."""
    corners = np.random.default_rng(seed).integers(0, 6, (2, 40, 4))
    boxes = np.concatenate([corners[..., :2], corners[..., :2] + corners[..., 2:]], axis=-1)
    found = np.asarray(losses.intersection_over_union(*boxes.astype(np.float32)))
    for index in range(40):
        one, other = ({(x, y) for x in range(a, c) for y in range(b, d)} for a, b, c, d in boxes[:, index])
        assert abs(found[index] - (len(one & other) / len(one | other) if one & other else 0)) < 1e-6


def test_texts_share_tokens_as_often_as_both_have_them():
    tokens = np.array([[1, 2, 3, 0], [1, 1, 1, 2], [5, 6, 0, 0], [0, 0, 0, 0], [4, 0, 0, 0]])
    reference = np.array([[3, 1, 9], [1, 1, 7], [6, 5, 0], [0, 0, 0], [0, 0, 0]])
    found = jax.jit(losses.token_f1)(tokens, reference, tokens > 0, reference > 0)
    np.testing.assert_allclose(found, [4 / 6, 4 / 7, 1.0, 1.0, 0.0], rtol=1e-6)


def test_worked_probabilities_of_groups_that_teach():
    n = np.array([1, 3, 5, 10, 20])
    success = np.float32(0.8) ** n
    np.testing.assert_allclose(success, [0.8, 0.512, 0.32768, 0.107374, 0.011529], atol=1e-6)
    found = losses.mixed_group_probability(success, 8)
    np.testing.assert_allclose(found, [0.832225, 0.992061, 0.958122, 0.596953, 0.088596], atol=2e-6)
    assert losses.mixed_group_probability(np.float32([0, 1]), 8).tolist() == [0, 0]
    assert losses.mixed_group_probability(np.float32(0.5), 8) == 1 - 2.0**-7
