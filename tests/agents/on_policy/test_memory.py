"""PPO's family with a memory: windows are read as they were acted on, and nothing changes without a history."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import init, update

from maxent_rl.agents import PPO
from maxent_rl.agents.on_policy.memory import RecallingPPO
from maxent_rl.agents.on_policy.minibatches import pack, unpack
from maxent_rl.types import Spec, Transition

SPEC = Spec((3,), (), 12, num_actions=4, num_envs=2)
SETTINGS = {"hidden_sizes": (8,), "normalize_observations": False, "epochs": 1, "minibatches": 1}
SMALL = RecallingPPO(**SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("history", ["recurrent", "transformer"])
def test_reading_a_window_gives_what_was_read_while_acting(history):
    """Episodes end in the middle of the window, and one was under way as it began."""
    agent = SMALL.replace(history=history, history_size=8, history_heads=2, context=12)
    time = 7
    state = init(agent, jax.random.key(0), SPEC)
    loud = {name: jax.tree.map(lambda leaf: 5.0 * np.asarray(leaf), kept) for name, kept in state.parameters.items()}
    state = dataclasses.replace(state, parameters=loud)  # at the start the past counts for little
    seen = np.random.default_rng(1).normal(size=(4 + time, 2, 3)).astype(np.float32)
    ends = np.zeros((4 + time, 2), np.float32)
    ends[[6, 8, 9], [0, 1, 1]] = 1
    fresh = agent.memory(state, (2,))

    @jax.jit
    def act(memory, seen, ends):
        found = agent.distribution(agent.recalling(state, memory), seen).logits
        after = agent.remember(state, memory, seen, jnp.zeros(2), jnp.zeros(2))
        return found, jax.tree.map(partial(jax.vmap(jnp.where), ends > 0), fresh, after)

    now, memories = [], [fresh]
    for step in range(4 + time):
        found, memory = act(memories[-1], seen[step], ends[step])
        now.append(found)
        memories.append(memory)
    zeros = np.zeros((time, 2), np.float32)
    batch = Transition(seen[4:], zeros, zeros, seen[4:], ends[4:], zeros, zeros + 1)

    @jax.jit
    def read(memory):
        recalled = agent.recalling(state, memory)
        window = agent.window_policy(recalled, batch.observation, batch).logits
        return window, agent.units(agent.evaluate(recalled, batch)[1])

    @jax.jit
    def learn(units):
        rebuilt = unpack(pack(units), units)
        return rebuilt, agent.policy_at(state.parameters, rebuilt).logits

    window, units = jax.device_get(read(memories[4]))
    rebuilt, learned = jax.device_get(learn(units))
    np.testing.assert_allclose(window, np.stack(now[4:]), atol=2e-5)
    forgetful, _ = act(fresh, seen[4], ends[4])
    assert np.max(np.abs(window[0] - forgetful)) > 1e-2  # the past matters
    jax.tree.map(np.testing.assert_array_equal, rebuilt, units)
    np.testing.assert_allclose(np.swapaxes(learned, 0, 1), window, atol=2e-5)


@pytest.mark.slow
def test_without_a_history_it_is_ppo():
    seen, ones = jax.random.normal(jax.random.key(1), (7, 2, 3)), jnp.ones((6, 2))
    batch = Transition(seen[:-1], ones, seen[1:, :, 0], seen[1:], 0 * ones, 0 * ones, ones)
    found = []
    for agent in (PPO(**SETTINGS), SMALL):
        state, metrics = update(agent, init(agent, jax.random.key(0), SPEC), batch, jax.random.key(2))
        found.append((*jax.tree.leaves(state), metrics))
    jax.tree.map(np.testing.assert_array_equal, *found)
