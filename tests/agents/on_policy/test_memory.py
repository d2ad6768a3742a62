"""PPO's family with a memory: windows are read as they were acted on, and nothing changes without a history."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.agents import PPO
from maxent_rl.agents.on_policy.memory import RecallingPPO
from maxent_rl.agents.on_policy.minibatches import pack, unpack
from maxent_rl.types import Spec, Transition

SPEC = Spec((3,), (), 12, num_actions=4, num_envs=2)
SETTINGS = {"hidden_sizes": (8,), "normalize_observations": False, "epochs": 1, "minibatches": 1}
SMALL = RecallingPPO(**SETTINGS)


@pytest.mark.parametrize("history", ["recurrent", "transformer"])
def test_reading_a_window_gives_what_was_read_while_acting(history):
    """Episodes end in the middle of the window, and one was under way as it began."""
    agent = SMALL.replace(history=history, history_size=8, history_heads=2, context=12)
    time = 7
    state = agent.init(jax.random.key(0), SPEC)
    loud = {name: jax.tree.map(lambda leaf: 5.0 * leaf, kept) for name, kept in state.parameters.items()}
    state = dataclasses.replace(state, parameters=loud)  # at the start the past counts for little
    seen = jax.random.normal(jax.random.key(1), (4 + time, 2, 3))
    ends = jnp.zeros((4 + time, 2)).at[6, 0].set(1).at[8, 1].set(1).at[9, 1].set(1)
    memory = begin = fresh = agent.memory(state, (2,))
    now = []
    for step in range(4 + time):
        begin = memory if step == 4 else begin
        now.append(agent.distribution(agent.recalling(state, memory), seen[step]).logits)
        after = agent.remember(state, memory, seen[step], jnp.zeros(2), jnp.zeros(2))
        memory = jax.tree.map(partial(jax.vmap(jnp.where), ends[step] > 0), fresh, after)
    zeros = jnp.zeros((time, 2))
    batch = Transition(seen[4:], zeros, zeros, seen[4:], ends[4:], zeros, jnp.ones((time, 2)))
    recalled = agent.recalling(state, begin)
    window = agent.window_policy(recalled, seen[4:], batch).logits
    np.testing.assert_allclose(window, jnp.stack(now[4:]), atol=2e-5)
    assert jnp.max(jnp.abs(window[0] - agent.distribution(state, seen[4]).logits)) > 1e-2  # the past matters
    _, samples = agent.evaluate(recalled, batch)
    units = agent.units(samples)
    rebuilt = unpack(pack(units), units)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), rebuilt, units)
    learned = agent.policy_at(state.parameters, rebuilt).logits
    np.testing.assert_allclose(jnp.swapaxes(learned, 0, 1), window, atol=2e-5)


def test_without_a_history_it_is_ppo():
    seen, ones = jax.random.normal(jax.random.key(1), (7, 2, 3)), jnp.ones((6, 2))
    batch = Transition(seen[:-1], ones, seen[1:, :, 0], seen[1:], 0 * ones, 0 * ones, ones)
    found = []
    for agent in (PPO(**SETTINGS), SMALL):
        state, metrics = jax.jit(agent.update)(agent.init(jax.random.key(0), SPEC), batch, jax.random.key(2))
        found.append((*jax.tree.leaves(state), metrics))
    jax.tree.map(np.testing.assert_array_equal, *found)
