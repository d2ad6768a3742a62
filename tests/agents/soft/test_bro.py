"""BRO: its second policy, how far that goes, and whole agents that begin anew."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import act, assert_alike, batch_of, compiled, init, same, update

from maxent_rl.agents import SAC, acting_state, check_agent
from maxent_rl.agents.soft.bro import BRO, NARROWING, adjusted, raw_of
from maxent_rl.errors import InvalidSettingError
from maxent_rl.losses import mean_quantile_huber_loss
from maxent_rl.networks import QuantileHead, Step
from maxent_rl.types import Spec

SPEC = Spec((3,), (2,), 100)
SMALL = BRO(hidden_sizes=(8,), critic_hidden_sizes=(8, 8), num_quantiles=5, batch_size=8, resets=None)


def test_adjusted_numbers():
    """Check 3 of bro.md."""
    np.testing.assert_allclose(raw_of(jnp.array([1.0, 0.25])), [0.143841, -0.015578], atol=1e-6)
    np.testing.assert_allclose(adjusted(jnp.zeros(())), 0.286505, rtol=1e-5)
    np.testing.assert_allclose(adjusted(raw_of(jnp.array([1e-3, 30.0]))), [1e-3, 30.0], rtol=1e-4)


def test_quantile_loss():
    """Check 1 of bro.md, whose sum over quantiles is N times the mean that is taken here."""
    loss = mean_quantile_huber_loss(jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([2.0, 2.5, 6.0, 6.5]))
    np.testing.assert_allclose([loss, 4 * loss], [0.705078, 2.820313], rtol=1e-5)


def test_targets_take_the_mean_of_quantiles_level_by_level():
    head = QuantileHead(2, dropped=1, average=True)
    step = Step(jnp.ones(1), jnp.full(1, 0.5), jnp.zeros(1), jnp.full(1, -2.0), jnp.asarray(0.1))
    target = head.target(jnp.array([[[3.0, 1.0]], [[5.0, 2.0]]]), step)
    np.testing.assert_allclose(target, [[1 + 0.5 * (4.0 + 0.2), 1 + 0.5 * (1.5 + 0.2)]], rtol=1e-6)


@pytest.mark.slow
def test_it_explores_by_a_second_policy_and_is_judged_by_the_first():
    """Without a shift the one is the other, narrowed; a part for acting has the first alone."""
    state, observation, key = init(SMALL, jax.random.key(0), SPEC), jnp.ones((4, 3)), jax.random.key(1)
    zero = dataclasses.replace(state.exploring, shift=jax.tree.map(jnp.zeros_like, state.exploring.shift))
    policy = compiled(SMALL, "distribution", state, observation)
    noise = jnp.arctanh(compiled(policy, "sample", key)) - policy.mean
    explored = jnp.arctanh(act(SMALL, dataclasses.replace(state, exploring=zero), observation, key)) - policy.mean
    np.testing.assert_allclose(explored, NARROWING * noise, rtol=1e-3, atol=1e-4)
    part = acting_state(SMALL, state)
    assert part.exploring is None
    np.testing.assert_allclose(
        act(SMALL, part, observation, key), compiled(policy, "sample", key), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_too_far_means_less_optimism_and_a_larger_weight():
    """And too near the other way round."""
    state = init(SMALL, jax.random.key(0), SPEC)
    near = jax.tree.map(jnp.zeros_like, state.exploring.shift)
    for shift, sign in ((jax.tree.map(lambda leaf: leaf + 1.0, near), 1), (near, -1)):
        before = dataclasses.replace(state, exploring=dataclasses.replace(state.exploring, shift=shift))
        after, metrics = update(SMALL, before, batch_of(), jax.random.key(1))
        assert sign * (float(metrics["optimism/divergence"]) - 2 * 0.05) > 0.01
        raw, old = after.exploring.raw, before.exploring.raw
        assert sign * float(raw["weight"] - old["weight"]) > 0 > sign * float(raw["optimism"] - old["optimism"])
        np.testing.assert_allclose(metrics["optimism/optimism"], 1.0, rtol=1e-5)
        np.testing.assert_allclose(metrics["optimism/weight"], 0.25, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("agent", [SMALL, SAC(hidden_sizes=(8,), batch_size=8, normalize_observations=True)])
def test_resets_draw_all_anew_but_what_was_seen(agent):
    """After the second update of three; the key of the update draws, so no two resets are the same."""
    agent = agent.replace(resets=(2, 5))
    states = [init(agent, jax.random.key(0), SPEC)]
    for index in range(3):
        states.append(update(agent, states[-1], batch_of(), jax.random.key(index))[0])
    assert_alike(states[0], states[-1])
    counts = [int(state.critic_optimizer[0].count) for state in states]
    assert counts == [0, 1, 0, 1] and [int(state.updates) for state in states] == [0, 1, 2, 3]
    assert float(states[2].log_alpha) == float(states[0].log_alpha) != float(states[1].log_alpha)
    assert same(states[2].critics, states[2].target_critics) and not same(states[2].critics, states[0].critics)
    if agent.normalize_observations:
        assert not same(states[2].normalizer, states[0].normalizer)
    else:
        assert same(states[2].exploring.raw, states[0].exploring.raw)
    other = update(agent, states[1], batch_of(), jax.random.key(9))[0]
    assert not same(other.policy, states[2].policy)


def test_refusals():
    for agent, words in (
        (SMALL.replace(num_critics=1, target_critics=1), "--num-critics must be at least 2"),
        (SMALL.replace(network="flash", projection="norms"), "no batch normalisation"),
        (SMALL.replace(resets=(5,), learning_rate_schedule="linear", scheduled_updates=9), "--resets needs"),
    ):
        with pytest.raises(InvalidSettingError, match=words):
            check_agent(agent, SPEC, "test")
