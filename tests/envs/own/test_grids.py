"""The grid worlds: walks by hand, what is seen, and rules that hold for every walk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl import envs
from maxent_rl.envs.own.grids import DANGER, FORWARD, GOAL, LEFT, RIGHT, VIEW, WALL, DynamicObstacles, LavaGap, view

LAVA, OBSTACLES = LavaGap(), DynamicObstacles()


def seen(observation):
    return np.asarray(observation).reshape(VIEW, VIEW, 3).astype(bool)


def lava_with_gap(column, gap):
    """The start of an episode with that column of lava."""
    state, _ = LAVA.reset(jax.random.key(0))
    danger = jnp.zeros((7, 7), bool).at[column, 1:6].set(True).at[column, gap].set(False)
    return state._replace(danger=danger)


def walk(env, state, actions):
    total = 0.0
    for action in actions:
        state, observation, reward, terminated = env.step(state, jnp.int32(action))
        total += float(reward)
    return state, observation, total, bool(terminated)


@pytest.mark.slow
def test_the_way_through_the_gap_pays_by_its_length():
    ways = [FORWARD] * 4 + [RIGHT] + [FORWARD] * 4  # along the wall through a gap in the first row, then down
    _, observation, total, terminated = walk(LAVA, lava_with_gap(3, 1), ways)
    assert terminated and total == pytest.approx(1 - 0.9 * 9 / 196)
    assert seen(observation)[VIEW - 1, VIEW // 2, GOAL]  # it stands on it


@pytest.mark.slow
def test_lava_ends_the_episode_without_reward_and_walls_only_stop():
    state, _, total, terminated = walk(LAVA, lava_with_gap(2, 3), [LEFT, FORWARD, FORWARD])
    assert not terminated and state.position.tolist() == [1, 1]
    _, _, total, terminated = walk(LAVA, state, [RIGHT, FORWARD])
    assert terminated and total == 0.0


def test_the_view_turns_with_the_agent():
    start = lava_with_gap(2, 4)
    east, south = seen(view(start, 7)), seen(view(start._replace(direction=jnp.int32(1)), 7))
    ahead, here = VIEW - 2, VIEW // 2
    assert east[ahead, here, DANGER] and not south[ahead, here].any()
    assert east[VIEW - 1, here - 1, WALL] and south[VIEW - 1, here + 1, WALL]  # north and west of the agent
    assert south[ahead, here - 1, DANGER]  # the lava is now on its left

    assert np.argwhere(seen(view(start._replace(position=jnp.array([3, 5])), 7))[..., GOAL]).tolist() == [
        [VIEW - 3, here]
    ]


@pytest.mark.slow
def test_every_gap_and_column_is_drawn_and_none_beside_a_wall():
    states, _ = jax.vmap(LAVA.reset)(jax.random.split(jax.random.key(1), 500))
    danger = np.asarray(states.danger)
    columns = {tuple(np.argwhere(each)[:, 0]) for each in danger}
    assert {column[0] for column in columns} == {2, 3, 4} and all(len(column) == 4 for column in columns)
    assert {
        (*np.unique(np.argwhere(each)[:, 0]), *np.setdiff1d(range(1, 6), np.argwhere(each)[:, 1])) for each in danger
    } == {(column, gap) for column in (2, 3, 4) for gap in range(1, 6)}


@pytest.mark.slow
def test_running_into_a_wall_or_an_obstacle_costs_one_and_ends():
    state, _ = OBSTACLES.reset(jax.random.key(0))
    _, _, total, terminated = walk(OBSTACLES, state, [LEFT, FORWARD])
    assert terminated and total == -1.0
    ahead = state._replace(
        danger=jnp.zeros((8, 8), bool).at[2, 1].set(True).at[5, 5].set(True).at[5, 3].set(True).at[3, 5].set(True)
    )
    _, _, total, terminated = walk(OBSTACLES, ahead, [FORWARD])
    assert terminated and total == -1.0


@pytest.mark.slow
def test_obstacles_wander_one_cell_at_a_time_on_free_cells():
    states, _ = jax.vmap(OBSTACLES.reset)(jax.random.split(jax.random.key(2), 64))
    turn = jax.jit(jax.vmap(lambda state: OBSTACLES.step(state, jnp.int32(LEFT))[0]))
    moved = 0
    for _ in range(20):
        before, states = np.asarray(states.danger), turn(states)
        after = np.asarray(states.danger)
        moved += int((before & ~after).sum())
        assert (after.sum(axis=(1, 2)) == 4).all()
        assert not after[:, [0, 7]].any() and not after[:, :, [0, 7]].any() and not after[:, 6, 6].any()
        assert not after[:, 1, 1].any()  # where the agent stands
        near = np.zeros_like(before)
        for x in (-1, 0, 1):
            for y in (-1, 0, 1):
                near |= np.roll(before, (x, y), axis=(1, 2))
        assert not (after & ~near).any()
    assert moved > 64 * 20  # on average more than one of the four each time


@pytest.mark.parametrize("name", ["LavaGap", "DynamicObstacles"])
def test_they_are_found_by_name(name):
    env = envs.make_device(f"maxent/{name}")
    _, observation = env.reset(jax.random.key(0))
    assert observation.shape == env.spec.observation_shape == (147,)
    assert env.spec.num_actions == 3 and env.spec.horizon == {"LavaGap": 196, "DynamicObstacles": 256}[name]
