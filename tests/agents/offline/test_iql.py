"""IQL: what each part learns from, its limits, and what it learns from mixed data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import assert_alike, same, update
from point_data import SPEC, init, learn, learned_return, logged_batch, one_state_logged_batch, point_transitions
from support.seeds import learning_seed

from maxent_rl.agents import acting_state, check_agent
from maxent_rl.agents.offline.iql import IQL
from maxent_rl.errors import InvalidSettingError

SMALL = IQL(hidden_sizes=(16, 16), batch_size=8)


def test_published_defaults():
    agent = IQL()
    assert (agent.expectile, agent.inverse_temperature, agent.largest_weight) == (0.7, 3.0, 100.0)
    assert (agent.batch_size, agent.hidden_sizes, agent.learning_rate) == (256, (256, 256), 3e-4)
    assert (agent.discount, agent.target_update_rate) == (0.99, 0.005)


@pytest.mark.slow
def test_update_keeps_structure_and_types_and_stays_finite():
    state = init(SMALL, jax.random.key(0))
    after, metrics = update(SMALL, state, logged_batch(), jax.random.key(1))
    assert_alike(state, after)
    assert all(np.isfinite(value) for value in metrics.values())
    for name in ("policy", "critics", "target_critics", "value"):
        assert not same(getattr(state, name), getattr(after, name))


@pytest.mark.slow
def test_values_never_depend_on_the_policy():
    """Critics and state value learn the same under any policy: no action outside the data is ever valued."""
    state = init(SMALL, jax.random.key(0))
    other = dataclasses.replace(state, policy=jax.tree.map(lambda leaf: 10 * leaf + 1, state.policy))
    first, second = (update(SMALL, each, logged_batch(), jax.random.key(1))[0] for each in (state, other))
    assert not same(first.policy, second.policy)
    for name in ("critics", "target_critics", "value", "critic_optimizer", "value_optimizer"):
        assert same(getattr(first, name), getattr(second, name))


def test_nothing_is_random_in_an_update():
    state = init(SMALL, jax.random.key(0))
    first, second = (update(SMALL, state, logged_batch(), jax.random.key(seed))[0] for seed in (1, 2))
    assert same(first, second)


@pytest.mark.slow
def test_without_advantages_it_clones():
    """At an inverse temperature of 0 the policy's loss is minus the mean log-probability."""
    _, metrics = update(SMALL.replace(inverse_temperature=0.0), init(SMALL, jax.random.key(0)), logged_batch(), None)
    np.testing.assert_allclose(metrics["actor/loss"], -metrics["data/log_prob"], rtol=1e-5)  # two sums of 8 terms
    assert metrics["actor/weight_mean"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("expectile", "expected"), [(0.5, 0.5), (0.99, 1.0)])
def test_the_state_value_is_the_expectile_of_what_the_data_did(expectile, expected):
    """In one state half of the actions pay 1 and half 0, and end: the mean is 1/2, the best is 1."""
    pays = jnp.array([1.0, 0.0] * 4)
    batch = dataclasses.replace(
        one_state_logged_batch(1.0), reward=pays, action=jnp.stack([pays, -pays], axis=-1) * jnp.ones((8, 2))
    )
    # One wide layer: of two layers of 16 units, one seed in sixty has none that tells the actions apart, and learns nothing.
    agent = SMALL.replace(hidden_sizes=(64,), expectile=expectile, learning_rate=1e-2, target_update_rate=0.2)
    state = learn(agent, init(agent, jax.random.key(learning_seed())), batch, 800)
    np.testing.assert_allclose(agent.value(state.value, jnp.zeros(3)), expected, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("terminated", "expected"), [(1.0, 1.0), (0.0, 2.0)])
def test_terminated_does_not_bootstrap_and_truncated_does(terminated, expected):
    """Every step pays 1 and ends the episode: the value is 1 by termination, 1 / (1 - 0.5) = 2 by truncation."""
    agent = SMALL.replace(learning_rate=1e-2, discount=0.5, target_update_rate=0.2)
    batch = one_state_logged_batch(terminated)
    state = learn(agent, init(agent, jax.random.key(0)), batch, 500)
    np.testing.assert_allclose(agent.values(state.critics, batch.observation, batch.action), expected, atol=0.15)


@pytest.mark.slow
def test_acting_draws_about_the_mode_with_the_acting_state_alone():
    state = init(SMALL, jax.random.key(0))
    part, observation = acting_state(SMALL, state), jnp.ones((20_000, 3))
    assert part.value is None and part.critics is None and part.value_optimizer is None
    drawn = SMALL.act(part, observation, jax.random.key(3))
    np.testing.assert_allclose(jnp.mean(drawn, axis=0), SMALL.mode(part, observation[0]), atol=0.03)
    np.testing.assert_allclose(jnp.std(drawn, axis=0), 1.0, atol=0.03)


def test_settings_that_cannot_work_are_refused():
    for settings, words in (
        ({"expectile": 1.0}, "--expectile must be greater than 0 and less than 1"),
        ({"log_std_min": 3.0}, "--log-std-min must be less than --log-std-max"),
    ):
        with pytest.raises(InvalidSettingError, match=words):
            check_agent(SMALL.replace(**settings), SPEC, "test")


@pytest.mark.slow
def test_it_learns_from_mixed_data_what_cloning_cannot():
    """Random actions return -15.5, steps straight to the origin -1.5; cloning is an inverse temperature of 0.

    Over 20 seeds: -24.1 with deviation 1.0 by cloning, -1.75 with 0.02 by IQL; untrained policies -14.9 with 0.9.
    """
    data = point_transitions()
    agent = IQL(hidden_sizes=(32, 32), batch_size=128, discount=0.9, learning_rate=1e-3, target_update_rate=0.02)
    assert learned_return(agent.replace(inverse_temperature=0.0), data, 1500, learning_seed()) < -20
    assert learned_return(agent, data, 1500, learning_seed()) > -3
