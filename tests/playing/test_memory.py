"""Agents that remember: one memory for each episode, in every way of playing; and those that do not are left as they were."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import OFFLINE_AGENTS_UNDER_TEST
from batches import init
from environments import HostPoint, Point
from flax import struct

from maxent_rl.agents import SAC
from maxent_rl.agents.base import Remembers, check_agent, fresh_memory, recalling, remember
from maxent_rl.errors import InvalidSettingError
from maxent_rl.playing.choosing import most_likely
from maxent_rl.playing.evaluation import evaluate_policy, start_device
from maxent_rl.playing.trajectories import collect_trajectories
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.policy import export_policy, load_policy, policy_arrays
from maxent_rl.spaces import Space
from maxent_rl.types import Spec

ENVS = {"device": Point(horizon=4), "host": lambda: HostPoint(horizon=4)}


@struct.dataclass
class CountState:
    weight: jax.Array
    memory: jax.Array | None


@struct.dataclass
class Counter:
    """Its first action entry is a tenth of the steps it has seen, its second half of the reward before."""

    learns: ClassVar[str] = "data"
    learns_from: ClassVar[str] = "windows"
    batch_size: int = 1

    def init(self, key, spec):
        return CountState(jnp.zeros(2), None)

    def mode(self, state, observation):
        memory = self.memory(state, observation.shape[:-1]) if state.memory is None else state.memory
        return memory * jnp.array([0.1, 0.5])

    def act(self, state, observation, key):
        return self.mode(state, observation)

    def update(self, state, batch, key):
        return state, {}

    def memory(self, state, batch_shape):
        return jnp.zeros((*batch_shape, 2))

    def recalling(self, state, memory):
        return dataclasses.replace(state, memory=memory)

    def remember(self, state, memory, observation, action, reward):
        return jnp.stack([memory[..., 0] + 1, reward], axis=-1)


def exported(folder, agent, spec=None):
    spec = spec or Point().spec
    states = jax.jit(jax.vmap(lambda key: agent.init(key, spec)))(jax.random.split(jax.random.key(0), 1))
    config = describe(RunConfig(agent="Own", env="Point"), agent)
    export_policy(folder, config, policy_arrays(agent, states), spec, step=0)
    return load_policy(folder, agent=type(agent))


@pytest.mark.slow
@pytest.mark.parametrize("env", ENVS.values(), ids=ENVS)
def test_each_episode_has_a_memory_of_its_own(tmp_path, env):
    """Side by side, they remember their own rewards; the next evaluation begins with nothing."""
    policy = exported(tmp_path, Counter())
    episodes = collect_trajectories(policy, 3, choose=most_likely, env=env)
    assert len({float(each.reward[0]) for each in episodes}) == 3
    for each in episodes:
        np.testing.assert_allclose(each.action[:, 0], 0.1 * np.arange(4), atol=1e-6)
        np.testing.assert_allclose(each.action[:, 1], 0.5 * np.append(0, each.reward[:-1]), rtol=1e-5)
    again = evaluate_policy(policy, 3, env=env)
    np.testing.assert_allclose(again.returns, [each.total for each in episodes], rtol=1e-5)
    assert evaluate_policy(policy, 3, env=env) == again


def test_a_policy_told_what_happens_plays_as_evaluation_does(tmp_path):
    policy, env = exported(tmp_path, Counter()), Point(horizon=4)
    (expected,) = collect_trajectories(policy, 1, choose=most_likely, env=env)
    memory = policy.memory()
    for step in range(4):
        action = policy(expected.observation[step], memory=memory)
        np.testing.assert_allclose(action, expected.action[step], atol=1e-6)
        memory = policy.remember(memory, expected.observation[step], action, expected.reward[step])
    np.testing.assert_array_equal(policy(expected.observation[0]), 0)


def test_a_policy_remembers_actions_as_its_agent_has_them(tmp_path):
    @struct.dataclass
    class Echo(Counter):
        def remember(self, state, memory, observation, action, reward):
            return action

    spec = Spec((2,), (2,), 4, action_space=Space("box", (2,), low=(-2.0, 0.0), high=(2.0, 10.0)))
    policy = exported(tmp_path, Echo(), spec)
    memory = policy.remember(policy.memory(), np.zeros(2), np.array([1.0, 10.0]), 0.0)
    np.testing.assert_allclose(memory, [0.5, 1.0])


@pytest.mark.slow
def test_agents_that_do_not_remember_are_given_nothing_and_their_programs_hold_nothing():
    agent, env = SAC(hidden_sizes=(8,)), Point()
    states = jax.jit(jax.vmap(lambda key: agent.init(key, env.spec)))(jax.random.split(jax.random.key(0), 2))
    assert not isinstance(agent, Remembers)
    assert fresh_memory(agent, states, (3,)) == () and recalling(agent, states, ()) is states
    assert remember(agent, states, (), jnp.zeros(2), jnp.zeros(2), jnp.zeros(())) == ()
    keys = jax.random.split(jax.random.key(1), 2)
    assert start_device(agent, states, keys, np.int32(0), 3, env).memory == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dt", "doc"])
def test_what_was_recalled_is_taken_out_again(name):
    agent, spec = OFFLINE_AGENTS_UNDER_TEST[name].agent, Point().spec
    state = init(agent, jax.random.key(0), spec)
    recalled = agent.recalling(state, jax.jit(lambda state: agent.memory(state, (3,)))(state))
    assert jax.tree.structure(recalled) != jax.tree.structure(state)
    assert jax.tree.structure(agent.recalling(recalled, None)) == jax.tree.structure(state)


def test_an_agent_that_replays_single_transitions_cannot_remember():
    @struct.dataclass
    class Forgetful(SAC):
        def memory(self, state, batch_shape):
            return ()

        def recalling(self, state, memory):
            return state

        def remember(self, state, memory, observation, action, reward):
            return ()

    with pytest.raises(InvalidSettingError, match="Forgetful remembers its episodes, which off-policy agents cannot"):
        check_agent(Forgetful(), Point().spec, "Point")


def test_memories_do_not_depend_on_how_many_are_side_by_side(tmp_path):
    policy = exported(tmp_path, Counter())
    together, apart = (collect_trajectories(policy, 3, env=ENVS["host"], num_envs=count) for count in (3, 2))
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_array_equal(one.action, other.action)
