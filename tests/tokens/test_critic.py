"""The token agent with a critic: what it begins as, what it is asked, when it learns alone, what a shared trunk means."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import NUM_RESPONSES, TOKEN_AGENTS_UNDER_TEST
from echo_task import assert_equal, collected, imitate, init, reinforce

from maxent_rl.agents.base import acting_state
from maxent_rl.tokens.critic import WITH_CRITIC

# Long responses are punished: by chance alone there is no right one to learn from.
SETTINGS = ("overlong_margin=2",)
AGENT = TOKEN_AGENTS_UNDER_TEST["grpo"].replace(objective="vapo", objective_settings=SETTINGS, learning_rate=1e-3)


@pytest.mark.slow
def test_only_objectives_with_a_critic_have_one():
    assert set(WITH_CRITIC) == {"ppo_critic", "turn_ppo", "vapo"}
    plain, state = (init(agent, jax.random.key(0)) for agent in (TOKEN_AGENTS_UNDER_TEST["grpo"], AGENT))
    assert plain.critic is None and plain.params.keys() == state.params.keys()
    assert len(jax.tree.leaves(acting_state(AGENT, state))) == len(jax.tree.leaves(state.params))


@pytest.mark.slow
@pytest.mark.parametrize("trunk", ["own", "shared"])
def test_it_learns_alone_first_and_then_beside_the_policy(trunk):
    """Two iterations of NUM_RESPONSES; a trunk of its own begins as the policy, and every value as 0."""
    agent = AGENT.replace(critic_trunk=trunk, critic_warm_start_steps=NUM_RESPONSES + 1)
    start = init(agent, jax.random.key(0))
    batch, _ = collected(agent, start, jax.random.key(1))
    assert np.all(np.asarray(batch.values) == 0) and batch.values.shape == batch.tokens.shape
    if trunk == "own":
        assert_equal(start.critic.params["trunk"], start.params)
    else:
        assert start.critic.params["trunk"] is None
    states = [start]
    for number in range(3):
        state, metrics = reinforce(agent, states[-1], jax.random.key(number))
        states.append(state)
        assert np.isfinite([*metrics.values()]).all() and metrics["critic/loss"] > 0
    assert [int(state.critic.waiting) for state in states] == [NUM_RESPONSES + 1, 1, 0, 0]
    assert_equal((states[2].params, states[2].optimizer), (start.params, start.optimizer))
    assert int(states[2].updates) == 8
    heads = [np.asarray(state.critic.params["head"]["kernel"]) for state in states]
    assert all(np.any(one != other) for one, other in itertools.pairwise(heads))
    assert any(np.any(a != b) for a, b in zip(*(jax.tree.leaves(states[i].params) for i in (2, 3)), strict=True))
    batch, _ = collected(agent, states[3], jax.random.key(1))
    assert np.any(np.asarray(batch.values)[batch.mask] != 0)


@pytest.mark.slow
def test_it_begins_with_the_policy_that_the_warm_start_has_made():
    agent = AGENT.replace(warm_start_steps=NUM_RESPONSES)
    after, _ = imitate(agent, init(agent, jax.random.key(0)), jax.random.key(1), 0)
    assert not after.warm
    assert_equal(after.critic.params["trunk"], after.params)
    assert np.all(after.critic.params["head"]["kernel"] == 0)


@pytest.mark.slow
def test_only_through_a_shared_trunk_the_critic_moves_the_policy():
    """At another rate of the critic the policy of one iteration, whose advantages are there before, is the same or is not."""
    for trunk, same in (("own", True), ("shared", False)):
        found = []
        for rate in (1e-2, 1e-5):
            agent = AGENT.replace(critic_trunk=trunk, critic_learning_rate=rate)
            found.append(reinforce(agent, init(agent, jax.random.key(0)), jax.random.key(1))[0].params)
        leaves = zip(*map(jax.tree.leaves, found), strict=True)
        assert all(np.array_equal(one, other) for one, other in leaves) == same


@pytest.mark.slow
def test_seeds_lie_side_by_side():
    """Vmapped, each is what it is alone."""
    agent, keys = AGENT.replace(critic_warm_start_steps=1), jax.random.split(jax.random.key(3), 2)
    states = jax.vmap(lambda key: init(agent, key))(keys)
    waiting = dataclasses.replace(states.critic, waiting=jnp.array([5, 0]))  # one learns alone, the other does not
    states = dataclasses.replace(states, critic=waiting)
    after, _ = jax.vmap(lambda state, key: reinforce(agent, state, key))(states, keys)
    for index in range(2):
        alone, _ = reinforce(agent, jax.tree.map(lambda leaf, i=index: leaf[i], states), keys[index])
        for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(after), strict=True):
            np.testing.assert_allclose(one, other[index], rtol=1e-4, atol=1e-5)
    kernel = after.params["embed_tokens"]["embedding"] - states.params["embed_tokens"]["embedding"]
    assert np.all(kernel[0] == 0) and np.any(kernel[1] != 0)
