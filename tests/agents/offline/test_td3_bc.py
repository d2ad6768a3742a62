"""TD3+BC: what learns when, its limits, and what it learns from mixed data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import assert_alike, same, update
from environments import DiscretePoint, Point
from point_data import (
    init,
    learn,
    learned_return,
    logged_batch,
    one_state_logged_batch,
    point_return,
    point_transitions,
)
from support.closeness import assert_close
from support.seeds import learning_seed

from maxent_rl.agents import acting_state, check_agent
from maxent_rl.agents.offline.rebrac import ReBRAC
from maxent_rl.agents.offline.td3_bc import TD3BC
from maxent_rl.errors import IncompatibleEnvironmentError

SMALL = TD3BC(hidden_sizes=(16, 16), batch_size=8, normalize_observations=False)


def test_published_defaults():
    agent = TD3BC()
    assert (agent.alpha, agent.policy_noise, agent.noise_clip, agent.policy_delay) == (2.5, 0.2, 0.5, 2)
    assert (agent.batch_size, agent.hidden_sizes, agent.learning_rate) == (256, (256, 256), 3e-4)
    assert agent.normalize_observations


@pytest.mark.slow
def test_the_policy_and_all_targets_learn_in_every_other_update():
    state = init(SMALL, jax.random.key(0))
    first, metrics = update(SMALL, state, logged_batch(), jax.random.key(1))
    assert_alike(state, first)
    second, again = update(SMALL, first, logged_batch(seed=1), jax.random.key(2))
    third, _ = update(SMALL, second, logged_batch(), jax.random.key(3))
    for name in ("policy", "target_policy", "target_critics", "policy_optimizer"):
        assert not same(getattr(state, name), getattr(first, name)) and same(
            getattr(first, name), getattr(second, name)
        )
        assert not same(getattr(second, name), getattr(third, name))
    assert not same(first.critics, second.critics)
    assert again["actor/loss"] == metrics["actor/loss"] and np.isfinite(metrics["critic/loss"])


@pytest.mark.slow
def test_seeds_that_are_not_in_step_do_not_move_each_other():
    zero = init(SMALL, jax.random.key(0))
    one, _ = update(SMALL, zero, logged_batch(), jax.random.key(1))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), zero, one)
    after, _ = jax.vmap(update, in_axes=(None, 0, None, None))(SMALL, both, logged_batch(), jax.random.key(2))
    moved = jax.tree.map(lambda leaf: leaf[1], after)
    assert same(moved.policy, one.policy) and same(moved.target_critics, one.target_critics)
    assert not same(jax.tree.map(lambda leaf: leaf[0], after).policy, zero.policy)


@pytest.mark.slow
def test_without_value_it_is_behaviour_cloning():
    """The policy's loss is the mean squared distance, and its step that of cloning with Adam, whatever the critics say."""
    agent, batch = SMALL.replace(alpha=0.0), logged_batch()
    state = init(agent, jax.random.key(0))
    after, metrics = update(agent, state, batch, jax.random.key(1))

    def cloning(policy):
        return jnp.mean((agent.mode(state.replace(policy=policy), batch.observation) - batch.action) ** 2)

    value, gradient = jax.value_and_grad(cloning)(state.policy)
    np.testing.assert_allclose(metrics["actor/loss"], value, rtol=1e-5)  # a sum of 16 squares
    step, _ = agent._optimizer().update(gradient, state.policy_optimizer)
    cloned = jax.tree.map(jnp.add, state.policy, step)
    # Adam's first step is its step size in every entry. Two programs differ in it where a gradient is about 0.
    assert_close(after.policy, cloned, rtol=1e-2, scale=agent.learning_rate)


def test_the_policy_climbs_the_first_critic():
    state, batch = init(SMALL, jax.random.key(0)), logged_batch()
    first = SMALL.first_value(state.critics, batch.observation, batch.action)
    assert_close(first, SMALL.values(state.critics, batch.observation, batch.action)[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [TD3BC, ReBRAC])
@pytest.mark.parametrize(("terminated", "expected"), [(1.0, 1.0), (0.0, 2.0)])
def test_terminated_does_not_bootstrap_and_truncated_does(kind, terminated, expected):
    """Every step pays 1 and ends the episode: the value is 1 by termination, 1 / (1 - 0.5) = 2 by truncation."""
    agent = kind(
        hidden_sizes=(16,), learning_rate=1e-2, discount=0.5, target_update_rate=0.2, policy_noise=0.0,
        normalize_observations=False,
    )  # fmt: skip
    batch = one_state_logged_batch(terminated)
    state = learn(agent, init(agent, jax.random.key(0)), batch, 500)
    q = agent.values(state.critics, batch.observation, batch.action)
    np.testing.assert_allclose(q, expected, atol=0.15)


@pytest.mark.slow
def test_observations_are_scaled_by_the_mean_and_deviation_of_the_data():
    data = point_transitions(episodes=5)
    agent = TD3BC(hidden_sizes=(8,))
    state = agent.begin(agent.init(jax.random.key(0), Point().spec), data)
    mean, deviation = np.mean(data.observations, axis=0), np.std(data.observations, axis=0)
    np.testing.assert_allclose(state.normalizer.mean, mean, atol=1e-5)
    np.testing.assert_allclose(state.normalizer.variance, deviation**2, rtol=1e-4)
    plain, observation = dataclasses.replace(state, normalizer=None), jnp.array([[0.3, -0.8]])
    expected = agent.mode(plain, (observation - mean) / deviation)
    np.testing.assert_allclose(agent.mode(state, observation), expected, atol=1e-5)


def test_acting_needs_only_the_acting_state():
    state = init(SMALL, jax.random.key(0))
    part = acting_state(SMALL, state)
    assert part.critics is None and part.target_policy is None and part.policy_optimizer is None
    observation = jnp.ones((4, 3))
    np.testing.assert_array_equal(SMALL.mode(part, observation), SMALL.mode(state, observation))


def test_discrete_actions_are_refused_naming_what_fits():
    with pytest.raises(IncompatibleEnvironmentError, match=r"Maze-v0 has 4 discrete ones; --agent cql-discrete"):
        check_agent(SMALL, DiscretePoint().spec, "Maze-v0")


@pytest.mark.slow
def test_it_learns_from_mixed_data_what_cloning_cannot():
    """Random actions return -15.5, steps straight to the origin -1.5.

    Over 20 seeds: -23.4 with deviation 1.0 by cloning, -2.7 with 0.6 by TD3+BC; untrained policies -14.8 with 1.2.
    """
    data = point_transitions()
    agent = TD3BC(hidden_sizes=(32, 32), batch_size=128, discount=0.9, learning_rate=1e-3)
    random = point_return(lambda observation, key: jax.random.uniform(key, (2,), minval=-1, maxval=1))
    assert random < -12 and learned_return(agent.replace(alpha=0.0), data, 1500, learning_seed()) < -20
    assert learned_return(agent.replace(alpha=60.0), data, 1500, learning_seed()) > -6
