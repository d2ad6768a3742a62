"""Trajectories: what evaluation plays, step by step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import HostPoint, OneStepDevice, Point

from maxent_rl import envs
from maxent_rl.agents import SAC
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, NonFiniteError
from maxent_rl.playing.choosing import most_likely, sampled_action
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.playing.trajectories import collect_trajectories
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.policy import export_policy, load_policy, policy_arrays

AGENT = SAC(hidden_sizes=(8,))


def untrained(folder, env, spec):
    states = jax.jit(jax.vmap(lambda key: AGENT.init(key, spec)))(jax.random.split(jax.random.key(0), 1))
    export_policy(folder, describe(RunConfig(env=env), AGENT), policy_arrays(AGENT, states), spec, step=0)
    return load_policy(folder)


def numbered(agent, state, observation, key):
    return agent.act(state, observation, key), {"first": observation[:, 0], "number": jnp.arange(len(observation))}


@pytest.mark.slow
@pytest.mark.parametrize("env", [Point(), HostPoint], ids=["device", "host"])
@pytest.mark.parametrize("choose", [sampled_action, most_likely])
def test_returns_and_lengths_are_those_of_evaluation(tmp_path, env, choose):
    policy = untrained(tmp_path, "Point", Point().spec)
    found = collect_trajectories(policy, 3, seed=4, choose=choose, env=env)
    expected = evaluate_policy(policy, 3, seed=4, stochastic=choose is sampled_action, env=env)
    np.testing.assert_allclose([each.total for each in found], expected.returns, rtol=1e-5)
    assert [each.length for each in found] == expected.lengths


@pytest.mark.slow
@pytest.mark.parametrize("env", [Point(), HostPoint], ids=["device", "host"])
def test_every_step_follows_from_the_one_before(tmp_path, env):
    """The point moves by a tenth of the action and pays minus its squared distance; notes stand beside their steps."""
    policy = untrained(tmp_path, "Point", Point().spec)
    for index, each in enumerate(collect_trajectories(policy, 3, choose=numbered, env=env)):
        assert each.observation.shape == (21, 2) and each.action.shape == (20, 2)
        np.testing.assert_allclose(np.diff(each.observation, axis=0), 0.1 * each.action, atol=1e-6)
        np.testing.assert_allclose(each.reward, -np.sum(each.observation[1:] ** 2, axis=1), rtol=1e-5)
        np.testing.assert_array_equal(each.notes["first"], each.observation[:-1, 0])
        np.testing.assert_array_equal(each.notes["number"], index)


@pytest.mark.slow
def test_what_follows_an_episodes_end_is_left_out(tmp_path):
    env = envs.make_device("maxent/MultiGoal")
    policy = untrained(tmp_path, "maxent/MultiGoal", env.spec)
    towards = collect_trajectories(policy, 4, choose=east)
    assert [each.length for each in towards] == [5] * 4 and all(each.reward[-1] > 8 for each in towards)
    assert all(env.nearest(each.observation[-1]) == 0 for each in towards)


def east(agent, state, observation, key):
    return jnp.tile(jnp.array([0.9, 0.0]), (len(observation), 1)), ()


@pytest.mark.slow
def test_an_episode_of_one_step(tmp_path):
    policy = untrained(tmp_path, "OneStep", OneStepDevice(True).spec)
    (each,) = collect_trajectories(policy, 1, env=OneStepDevice(True))
    assert each.length == 1 and each.total == 1.0 and each.observation.shape == (2, 1)


@pytest.mark.slow
def test_what_cannot_be_played_is_one_sentence(tmp_path):
    policy = untrained(tmp_path, "Point", Point().spec)
    with pytest.raises(InvalidSettingError, match="at least 1 episode"):
        collect_trajectories(policy, 0, env=Point())
    with pytest.raises(IncompatibleEnvironmentError, match="trained on"):
        collect_trajectories(policy, 1, env="Pendulum-v1")
    with pytest.raises(NonFiniteError, match="Point gave NaN"):
        collect_trajectories(policy, 1, env=Point(fault_at=3))
