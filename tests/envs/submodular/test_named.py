"""Environments that pay for sets, by name: what returns add up to, fresh memories, bounds, walls, names and pictures."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.closeness import assert_close, rounding

from maxent_rl import envs
from maxent_rl.envs import reset_batch, step_batch
from maxent_rl.envs.submodular.field_map import HasFieldMap
from maxent_rl.envs.submodular.motions import LEFT, RIGHT, STAY, GridWalk
from maxent_rl.envs.submodular.named import SUBMODULAR, grid_coverage, make_submodular, tabular
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, UnknownNameError

FAST = [name for name in SUBMODULAR if name != "AntCoverage"]
ALL = [*FAST, pytest.param("AntCoverage", marks=pytest.mark.slow)]
VISITED = "-visited"  # these observe all that the others do, too


def _random_actions(env, key, shape):
    if env.spec.num_actions is None:
        return jax.random.uniform(key, (*shape, *env.spec.action_shape), minval=-1.0, maxval=1.0)
    return jax.random.randint(key, shape, 0, env.spec.num_actions)


@functools.partial(jax.jit, static_argnums=0)
def _episode(env, key, actions):
    """(start's element, elements [n], rewards [n], observations [n, observation], ends [n]) of one episode."""
    start, _ = env.reset(key)

    def step(state, action):
        state, observation, reward, ended = env.step(state, action)
        return state, (env.motion.element(state.place), reward, observation, ended)

    return env.motion.element(start.place), *jax.lax.scan(step, start, actions)[1]


@functools.cache
def _value(function):
    return jax.jit(function.value)


def _trajectory(env, start, elements):
    return jnp.concatenate([start[None], elements]) if env.motion.visits_start else elements


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_return_is_the_worth_of_all_that_was_visited_less_the_starts(name):
    env = envs.make_device(f"maxent/{name}{VISITED}")

    @jax.jit
    def play(seed):
        key, action_key = jax.random.split(jax.random.key(seed))
        actions = _random_actions(env, action_key, (env.horizon,))
        start, elements, *found = _episode(env, key, actions)
        worth = env.function.value(_trajectory(env, start, elements))
        single = jax.vmap(lambda each: env.function.value(each[None]))(elements)
        return env.start_value(env.reset(key)[0]), env.scale * worth, env.scale * single, *found

    for seed in range(1 if name == "AntCoverage" else 4):
        begun, worth, single, rewards, observations, ended = jax.device_get(play(seed))
        np.testing.assert_allclose(begun + rewards.sum(), worth, rtol=2e-5, atol=1e-4)
        assert (rewards >= -1e-5).all() and worth > begun
        np.testing.assert_array_equal(ended, np.arange(env.horizon) == env.horizon - 1)
        np.testing.assert_allclose(observations[:, -1], single, rtol=1e-5, atol=1e-5)
        assert np.isfinite(observations).all()
        # Place and time lie around -1 to 1; an ant's velocities do not.
        if name != "AntCoverage":
            assert np.abs(observations[:, : env.motion.observation_size + 1]).max() <= 1.0 + rounding(4)


@pytest.mark.parametrize(
    ("name", "horizon", "message"),
    [
        ("GridCoverage", 0, "horizon must be at least 1, got 0"),
        ("InformativePath", 41, "41 steps visits 42 elements, but the memory of InformationGain holds 41"),
    ],
)
def test_horizons_that_cannot_be_stepped_to_their_end_are_refused(name, horizon, message):
    with pytest.raises(InvalidSettingError, match=message):
        dataclasses.replace(envs.make_device(f"maxent/{name}"), horizon=horizon)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"motion": GridWalk(31, 30, 0)}, "GridWalk moves among 930 elements, but Coverage has 900"),
        ({"motion": GridWalk(30, 30, 0, steps=79)}, "steps up to 79 apart, but an episode has 80"),
        ({"scale": -1.0}, "scale of rewards must be above 0 and finite, got -1"),
        ({"scale": float("nan")}, "scale of rewards must be above 0 and finite, got nan"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(change, message):
    with pytest.raises(InvalidSettingError, match=message):
        dataclasses.replace(envs.make_device("maxent/GridCoverage"), **change)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_every_episode_begins_with_a_fresh_memory(name):
    """The same actions pay the same in every episode, and what was visited before is forgotten."""
    env = envs.make_device(f"maxent/{name}{VISITED}")
    env = dataclasses.replace(
        env, motion=dataclasses.replace(env.motion, **({"miss": 0.0} if name == "EpsilonBandit" else {}))
    )
    state, actions = jax.jit(lambda: (
        reset_batch(env, jax.random.split(jax.random.key(0), (1, 3))),
        _random_actions(env, jax.random.key(1), (env.horizon, 1, 3)),
    ))()  # fmt: skip
    first_state = state
    run = jax.jit(lambda state: jax.lax.scan(lambda state, action: step_batch(env, state, action), state, actions))
    returned = []
    for _ in range(2):
        state, steps = run(state)
        returned.append(steps.reward)
        terminated = np.asarray(steps.terminated)
        assert terminated[-1].all() and not terminated[:-1].any() and not np.any(steps.truncated)
        # Equal up to rounding: the first reset and those within a run are parts of two programs.
        assert_close(state.inner, first_state.inner, rounding(16))
        assert_close(state.observation, first_state.observation, rounding(16))
    np.testing.assert_allclose(*returned, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_coverage_by_hand():
    """From cell 34 to the right and back: 4 cells of the first footprint, 2 new ones for each move, none for the way back."""
    env = envs.make_device("maxent/GridCoverage")
    actions = jnp.array([RIGHT, RIGHT, STAY, LEFT, LEFT, LEFT] + [STAY] * 74)
    *_, rewards, observations, _ = _episode(env, jax.random.key(0), actions)
    np.testing.assert_array_equal(rewards[:7], [2, 2, 0, 0, 0, 2, 0])
    np.testing.assert_array_equal(observations[:, -1], 4.0)
    assert env.start_value(env.reset(jax.random.key(0))[0]) == 4.0


def test_the_bimodal_weights_are_the_papers():
    weights = envs.make_device("maxent/BimodalCoverage").field_map.value
    high, low = 1 / (1 + np.exp(-1)), 1 / (1 + np.e)
    np.testing.assert_allclose(weights[[0, 0, 29, 29], [0, 29, 0, 29]], [high, low, low, high], rtol=1e-6)
    np.testing.assert_allclose(weights, weights.T, rtol=1e-6)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=80, max_size=80))
def test_a_walk_covers_at_most_four_cells_and_two_for_each_move(actions):
    env = envs.make_device("maxent/GridCoverage")
    *_, rewards, _, _ = _episode(env, jax.random.key(0), jnp.array(actions))
    assert 4 + rewards.sum() <= 4 + 2 * sum(action != STAY for action in actions)
    assert rewards.max() <= 2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_no_more_items_are_collected_than_are_wanted(seed):
    env = envs.make_device("maxent/ItemCollection")
    random = np.random.default_rng(seed)
    value = _value(env.function)
    assert value(random.permutation(105)[:41]) <= 21 == value(np.arange(105))
    np.testing.assert_array_equal(np.bincount(env.function.items.values + 1), [12, 18, 14, 13, 16, 18, 14])


@pytest.mark.parametrize("name", ["ObstacleCoverage", "TwoRooms"])
def test_nothing_is_covered_on_or_behind_walls_and_everything_else_can_be(name):
    env = envs.make_device(f"maxent/{name}")
    free, columns = env.motion.free, env.motion.columns
    footprints = np.asarray(env.function.footprints)
    reachable, frontier = {env.motion.start}, {env.motion.start}
    while frontier:
        frontier = set(env.motion.led_to[sorted(frontier)].ravel().tolist()) - reachable
        reachable |= frontier
    assert reachable == set(np.flatnonzero(free))
    for cell in reachable:
        row, column = divmod(cell, columns)
        for seen in footprints[cell][footprints[cell] >= 0]:
            down, right = seen // columns - row, seen % columns - column
            assert free.ravel()[seen] and down in (0, 1) and right in (0, 1)
            if down and right:
                assert free[row + 1, column] or free[row, column + 1]
    assert np.isnan(env.field_map.value[~free]).all() and not np.isnan(env.field_map.value[free]).any()


def test_the_first_of_two_rooms_is_not_enough():
    """Its 49 cells and the door's are fewer than 40 moves can cover."""
    env = envs.make_device("maxent/TwoRooms")
    room = np.array([row * 14 + column for row in range(7) for column in range(7)])
    value = jax.jit(env.function.value)
    assert value(room) == 50 < 4 + 2 * 40
    assert value(np.flatnonzero(env.motion.free.ravel())) == 49 + 1 + 42


@pytest.mark.slow
def test_the_released_design_function_holds_in_single_precision():
    env = envs.make_device("maxent/ExperimentDesignReleased")
    exact = np.asarray(env.function.covariance, np.float64)
    for seed in range(3):
        actions = jax.random.randint(jax.random.key(seed), (env.horizon,), 0, 5)
        start, elements, rewards, *_ = _episode(env, jax.random.key(0), actions)
        trajectory = np.asarray(_trajectory(env, start, elements))
        matrix = exact[np.ix_(trajectory, trajectory)] + 1e-6 * np.eye(len(trajectory))
        expected = 0.5 * np.linalg.slogdet(matrix)[1] + 9.965784 * len(trajectory)
        np.testing.assert_allclose(
            env.start_value(env.reset(jax.random.key(0))[0]) + rewards.sum(), expected, rtol=5e-5
        )
        assert rewards.min() > 0


def test_what_is_near_tells_little_more():
    """On the field to be measured a cell beside the first tells at most half of what it would tell alone."""
    env = envs.make_device("maxent/InformativePath")
    gains = np.asarray(jax.jit(env.function.marginal_gains)(np.array([34, 35, 34])))
    assert gains[1] < 0.5 * env.function.single(jnp.int32(35)) and gains[2] == 0.0


@pytest.mark.parametrize("name", ALL)
def test_two_makes_of_one_name_are_equal(name):
    """And so one program serves both."""
    first = envs.make_device(f"maxent/{name}")
    second = make_submodular.__wrapped__(name, "")
    assert first is not second and first == second and hash(first) == hash(second)
    assert first != make_submodular(name, "visited")


def test_visited_environments_observe_the_summary_of_what_was_visited():
    env = envs.make_device("maxent/GridCoverage-visited")
    state, observation = env.reset(jax.random.key(0))
    assert observation.shape == (30 + 30 + 1 + 900 + 1,)
    np.testing.assert_array_equal(np.flatnonzero(observation[61:-1]), [34, 35, 64, 65])
    _, observation, *_ = env.step(state, jnp.int32(RIGHT))
    np.testing.assert_array_equal(np.flatnonzero(observation[61:-1]), [34, 35, 36, 64, 65, 66])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAST if name != "EpsilonBandit"])
def test_pictures_show_where_trajectories_lead(name):
    env = envs.make_device(f"maxent/{name}")
    assert isinstance(env, HasFieldMap)
    shown = env.field_map
    rows, columns = shown.value.shape
    _, observation = env.reset(jax.random.key(0))
    start, elements, _, observations, _ = _episode(
        env, jax.random.key(0), _random_actions(env, jax.random.key(2), (env.horizon,))
    )
    observations = np.concatenate([observation[None], observations])
    places = shown.places(observations)
    assert places.shape == (env.horizon + 1, 2)
    assert (places >= -0.5).all() and (places <= [columns - 0.5, rows - 0.5]).all()
    column, row = np.floor(places + 0.5).astype(int).T
    assert not np.isnan(shown.value[row.clip(0, rows - 1), column.clip(0, columns - 1)]).any()
    trajectory = _trajectory(env, start, elements)
    reached = shown.reached(observations)
    assert reached.shape == (rows, columns)
    if "Coverage" in name or name == "TwoRooms":  # what is reached is what pays
        np.testing.assert_allclose(np.nansum(shown.value[reached]), jax.jit(env.function.value)(trajectory), rtol=1e-5)
    else:
        cells = set(zip(row.tolist(), column.tolist(), strict=True))
        assert set(zip(*map(np.ndarray.tolist, np.nonzero(reached)), strict=True)) == cells
    if name not in ("SteinerTree", "PointCoverage"):
        np.testing.assert_array_equal(row * columns + column, trajectory)
    for x, y, _ in shown.marks:
        assert not np.isnan(shown.value[int(y), int(x)])


def test_choices_lie_in_no_plane():
    assert not isinstance(envs.make_device("maxent/EpsilonBandit"), HasFieldMap)


def test_a_table_of_places_and_steps():
    env = tabular(envs.make_device("maxent/SteinerTree"))
    *_, observations, _ = _episode(env, jax.random.key(0), jnp.array([1, 1, 0, 0, 2, 1]))
    assert env.spec.observation_shape == (12 * 7 + 2,)
    np.testing.assert_array_equal(observations[:, :-2].sum(axis=1), 1)
    assert env.field_map.places(np.asarray(observations)).tolist() == [[1, 1], [0, 2], [1, 1], [4, 0], [4, 1], [3, 2]]
    for name in ("EpsilonBandit", "PointCoverage"):
        with pytest.raises(IncompatibleEnvironmentError, match="Only walks over finitely many"):
            tabular(envs.make_device(f"maxent/{name}"))


def test_coverage_of_ones_own_grid():
    env = grid_coverage([[1.0, 2.0], [3.0, 4.0]], horizon=2, start=3)
    *_, rewards, _, _ = _episode(env, jax.random.key(0), jnp.array([LEFT, STAY]))
    assert rewards.tolist() == [3.0, 0.0] and env.start_value(env.reset(jax.random.key(0))[0]) == 4.0


def test_the_number_of_an_epsilon_bandit_is_its_chance_to_miss():
    assert envs.make_device("maxent/EpsilonBandit-0.25").motion.miss == 0.25
    assert envs.make_device("maxent/EpsilonBandit").motion.miss == 0.1
    both = envs.make_device("maxent/EpsilonBandit-0.25-visited")
    assert both.motion.miss == 0.25 and both.visited
    assert envs.make_device("maxent/EpsilonBandit-visited").visited


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GridCoverages", "Did you mean 'maxent/GridCoverage'"),
        ("SteinerTre", "Did you mean 'maxent/SteinerTree'"),
        (
            "GridCoverage-7",
            "takes no '7' behind its name; there are maxent/GridCoverage and maxent/GridCoverage-visited",
        ),
        ("TwoRooms-seen", "takes no 'seen' behind its name"),
        ("EpsilonBandit-visited-0.1", "takes a probability from 0 to 1 behind its name"),
        ("EpsilonBandit-1.5-visited", "takes a probability from 0 to 1 behind its name"),
    ],
)
def test_wrong_names_are_answered_with_right_ones(name, message):
    with pytest.raises(UnknownNameError, match=message):
        envs.make_device(f"maxent/{name}")
