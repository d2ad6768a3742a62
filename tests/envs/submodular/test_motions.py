"""Walks by hand: grids with edges, walls and slips, graphs, and free choice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxent_rl.envs.submodular.motions import DOWN, LEFT, RIGHT, STAY, UP, FreeChoice, GraphWalk, GridWalk
from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.set_functions import Table


def _walk(motion, actions, seed=0):
    """Elements and observations of a walk, its start first."""
    state = motion.reset(jax.random.key(seed))
    elements, observations = [int(motion.element(state))], [np.asarray(motion.observe(state))]
    for action in actions:
        state, ended = motion.move(state, jnp.int32(action))
        assert not ended
        elements.append(int(motion.element(state)))
        observations.append(np.asarray(motion.observe(state)))
    return elements, np.stack(observations)


def test_a_walk_over_a_grid_by_hand():
    elements, observations = _walk(GridWalk(3, 4, start=5), [RIGHT, DOWN, DOWN, LEFT, STAY, UP, UP, UP, LEFT, LEFT])
    assert elements == [5, 6, 10, 10, 9, 9, 5, 1, 1, 0, 0]
    np.testing.assert_allclose(observations[[0, 2, 9]], [[0, -1 / 3], [1, 1 / 3], [-1, -1]], atol=1e-6)


def test_walls_stop_a_walk():
    blocked = Table([[False, True, False], [False, False, False]])
    elements, _ = _walk(GridWalk(2, 3, 0, blocked), [RIGHT, DOWN, RIGHT, UP, RIGHT, UP, LEFT])
    assert elements == [0, 0, 3, 4, 4, 5, 2, 2]


def test_a_single_row_is_observed_in_its_middle():
    _, observations = _walk(GridWalk(1, 3, 0), [RIGHT, UP, RIGHT])
    np.testing.assert_array_equal(observations, [[0, -1], [0, 0], [0, 0], [0, 1]])


def test_one_hot_rows_and_columns_by_hand():
    _, observations = _walk(GridWalk(2, 3, 0, one_hot=True), [RIGHT, DOWN])
    np.testing.assert_array_equal(observations, [[1, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0, 1, 0, 1, 0]])


@pytest.mark.parametrize("settings", [{}, {"one_hot": True}, {"steps": 6}])
def test_observations_tell_the_cell(settings):
    motion = GridWalk(4, 5, 7, **settings)
    elements, observations = _walk(motion, [RIGHT, DOWN, LEFT, LEFT, UP, UP])
    assert observations.shape[1] == motion.observation_size
    np.testing.assert_array_equal(motion.element_seen(np.pad(observations, ((0, 0), (0, 2)))), elements)


def test_with_steps_every_pair_of_place_and_step_is_a_feature_of_its_own():
    motion = GridWalk(2, 2, 0, steps=3)
    elements, observations = _walk(motion, [RIGHT, STAY, DOWN])
    assert observations.shape == (4, 4 * 4)
    np.testing.assert_array_equal(observations.sum(axis=1), 1)
    np.testing.assert_array_equal(
        np.argmax(observations, axis=1), [4 * cell + step for step, cell in enumerate(elements)]
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_moves_lead_to_free_neighbours_or_nowhere(seed):
    random = np.random.default_rng(seed)
    rows, columns = random.integers(1, 6, 2)
    blocked = random.random((rows, columns)) < 0.3
    blocked.ravel()[0] = False
    motion = GridWalk(int(rows), int(columns), 0, Table(blocked))
    row, column = np.divmod(np.arange(rows * columns), columns)
    away = np.abs(row[motion.led_to] - row[:, None]) + np.abs(column[motion.led_to] - column[:, None])
    assert away.max() <= 1 and (away[:, STAY] == 0).all()
    moved = away > 0
    assert not blocked.ravel()[motion.led_to[moved]].any()
    # Whoever comes from a free cell can go back, by the opposite action.
    for action, back in ((UP, DOWN), (RIGHT, LEFT)):
        cells = np.flatnonzero(moved[:, action] & ~blocked.ravel())
        np.testing.assert_array_equal(motion.led_to[motion.led_to[cells, action], back], cells)


@pytest.mark.slow
def test_slips_take_a_uniformly_random_action():
    motion = GridWalk(3, 3, 4, slipping=0.4)
    moved = jax.vmap(lambda key: motion.move(motion.reset(key), jnp.int32(UP))[0].element)
    share = np.bincount(moved(jax.random.split(jax.random.key(0), 5000)), minlength=9) / 5000
    np.testing.assert_allclose(share[[1, 3, 4, 5, 7]], [0.68, 0.08, 0.08, 0.08, 0.08], atol=0.025)
    fresh = [_walk(motion, [UP] * 5, seed)[0] for seed in range(6)]
    assert len({tuple(each) for each in fresh}) > 1


def test_a_graph_by_hand():
    motion = GraphWalk(Table([[1, 2], [-1, 0], [2, 1]]), start=0)
    elements, observations = _walk(motion, [0, 0, 1, 1, 0, 1])
    assert elements == [0, 1, 1, 0, 2, 2, 1]
    np.testing.assert_array_equal(observations, np.eye(3)[elements])
    np.testing.assert_array_equal(motion.element_seen(observations), elements)


@pytest.mark.parametrize("miss", [0.0, 0.3, 1.0])
def test_free_choice_reaches_what_it_chooses_but_for_misses(miss):
    motion = FreeChoice(4, miss, 2)
    moved = jax.vmap(lambda key: motion.move(motion.reset(key), jnp.int32(2))[0].element)
    share = np.bincount(moved(jax.random.split(jax.random.key(1), 5000)), minlength=4) / 5000
    np.testing.assert_allclose(share, motion.outcomes[2], atol=0.025)
    np.testing.assert_allclose(motion.outcomes.sum(axis=1), 1.0)
    assert not motion.visits_start


def test_free_choice_observes_time_alone():
    _, observations = _walk(FreeChoice(4, 0.0, 2), [3, 1])
    np.testing.assert_array_equal(observations, np.eye(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GridWalk(0, 3, 0), "at least one row and column, got 0 x 3"),
        (lambda: GridWalk(2, 3, 6), "start must be from 0 to 5, got 6"),
        (lambda: GridWalk(2, 2, 1, Table([[False, True], [False, False]])), "start, cell 1, is blocked"),
        (lambda: GridWalk(2, 2, 1, Table([False, True])), r"must be \[2, 2\] as the grid, got \[2\]"),
        (lambda: GridWalk(2, 2, 1, slipping=1.5), "`slipping` must be from 0 to 1, got 1.5"),
        (lambda: GridWalk(2, 2, 1, steps=-1), "must be at least 0, got -1"),
        (lambda: GraphWalk(Table([[1, 2], [0, 0]])), "leads to node 2, but there are nodes 0 to 1 only"),
        (lambda: GraphWalk(Table([1, 0])), r"whole numbers \[node, action\] and not empty, got int64 \[2\]"),
        (lambda: GraphWalk(Table([[0.5, 1.0]])), r"neighbours must be whole numbers .* got float64"),
        (lambda: GraphWalk(Table([[0, -7]])), "or -1 where there is no edge, got -7"),
        (lambda: GraphWalk([[0]]), r"neighbours must be a Table, as in Table\(values\), got a list"),
        (lambda: GridWalk(2, 2, 1, np.zeros((2, 2), bool)), "blocked cells must be a Table"),
        (lambda: FreeChoice(0, 0.1, 3), "at least 1 element and 1 step, got 0 and 3"),
        (lambda: FreeChoice(3, -0.1, 3), "`miss` must be from 0 to 1, got -0.1"),
    ],
)
def test_what_cannot_be_walked_is_refused(make, message):
    with pytest.raises((InvalidSettingError, ShapeError), match=message):
        make()
