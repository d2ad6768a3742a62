"""Our own small environments: values by hand, episodes through the batched step, names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close, rounding

from maxent_rl import envs
from maxent_rl.envs import reset_batch, step_batch
from maxent_rl.envs.reward_map import HasRewardMap
from maxent_rl.errors import UnknownNameError


@pytest.mark.parametrize(("name", "count"), [("TwoOptima", 2), ("FourOptima", 4)])
def test_every_optimum_pays_the_same_and_the_middle_nothing(name, count):
    env = envs.make_device(f"maxent/{name}")
    values = env.value(jnp.array(env.optima))
    assert values.shape == (count,)
    np.testing.assert_allclose(values, 1.0, atol=1e-5)
    assert env.value(jnp.zeros(env.spec.action_size)) < 1e-5
    aside = jnp.array(env.optima[0]) + 0.1 * jnp.eye(env.spec.action_size)[0]
    np.testing.assert_allclose(env.value(aside), np.exp(-0.5), atol=1e-5)


def test_shares_count_what_lies_at_each_optimum():
    env = envs.make_device("maxent/FourOptima")
    actions = jnp.array([env.optima[0], env.optima[0], env.optima[3], (0.0, 0.0)])
    np.testing.assert_allclose(env.shares(actions), [0.5, 0.0, 0.0, 0.25])


@pytest.mark.parametrize("name", ["TwoOptima", "FourOptima", "MultiGoal"])
def test_the_reward_map_is_that_of_the_environment(name):
    env = envs.make_device(f"maxent/{name}")
    shown = env.reward_map
    assert isinstance(env, HasRewardMap)
    points = jax.random.uniform(jax.random.key(0), (500, len(shown.names)), minval=-shown.edge, maxval=shown.edge)
    reached = shown.reached(points)
    assert set(reached) == set(range(-1, len(shown.optima)))
    np.testing.assert_array_equal(shown.reached(shown.optima), range(len(shown.optima)))
    if shown.over == "observation":
        np.testing.assert_array_equal(reached, env.nearest(points))
        np.testing.assert_array_equal(shown.value(points), env.landscape(points))
    else:
        shares = np.array([np.mean(reached == i) for i in range(len(shown.optima))])
        assert_close(env.shares(points), shares, rounding(4))
        np.testing.assert_array_equal(shown.value(points), env.value(points))


def test_two_optima_is_the_sheets_bandit():
    env, action = envs.make_device("maxent/TwoOptima"), jnp.float32(0.53)
    expected = np.exp(-((0.53 - 0.6) ** 2) / 0.02) + np.exp(-((0.53 + 0.6) ** 2) / 0.02)
    np.testing.assert_allclose(env.value(action[None]), expected, rtol=1e-5)


@pytest.mark.slow
def test_a_bandit_ends_after_one_step():
    env = envs.make_device("maxent/FourOptima")
    state = reset_batch(env, jax.random.split(jax.random.key(0), (1, 3)))
    state, step = step_batch(env, state, jnp.zeros((1, 3, 2)))
    assert step.terminated.all() and not step.truncated.any()
    np.testing.assert_array_equal(state.episode, 1)


def test_multigoal_by_hand():
    env = envs.make_device("maxent/MultiGoal")
    position, _, reward, reached = env.step(jnp.array([3.5, 0.0]), jnp.array([0.6, -0.2]))
    np.testing.assert_allclose(position, [4.1, -0.2], rtol=1e-6)
    assert reached
    np.testing.assert_allclose(reward, -0.1 * (0.9**2 + 0.2**2) - 0.3 * (0.36 + 0.04) + 10, rtol=1e-5)
    position, _, reward, reached = env.step(jnp.array([6.8, 6.8]), jnp.array([1.0, -1.0]))
    np.testing.assert_allclose(position, [7.0, 5.8], rtol=1e-6)
    assert not reached and reward < 0
    np.testing.assert_array_equal(env.nearest(jnp.array([[0.0, 0.0], [0.0, -4.5], [-5.0, 0.5]])), [-1, 3, 1])


def test_all_goals_are_as_good_as_each_other():
    """Straight from the middle to each goal: the same return, by termination before the horizon."""
    env, returns = envs.make_device("maxent/MultiGoal"), []
    for goal in env.goals:
        state, total, ended = jnp.zeros(2), 0.0, False
        for _ in range(5):
            assert not ended
            state, _, reward, ended = env.step(state, jnp.array(goal) / 5)
            total += float(reward)
        assert ended
        returns.append(total)
    np.testing.assert_allclose(returns, returns[0], rtol=1e-5)


@pytest.mark.slow
def test_multigoal_starts_in_the_middle_and_is_cut_at_the_horizon():
    env = envs.make_device("maxent/MultiGoal")
    state = reset_batch(env, jax.random.split(jax.random.key(0), (2, 50)))
    assert np.abs(state.observation).max() < 0.6 and np.asarray(state.observation).std() > 0.05
    advance = jax.jit(lambda state: step_batch(env, state, jnp.zeros((2, 50, 2))))
    for _ in range(env.horizon):
        state, step = advance(state)
    assert step.truncated.all() and not step.terminated.any()


def test_wrong_names_get_the_nearest_right_one():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'maxent/MultiGoal'"):
        envs.make_device("maxent/Multigoals")
