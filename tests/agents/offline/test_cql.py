"""CQL for continuous actions: SAC where the penalty weighs nothing, and what the penalty changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import assert_alike, same, update
from environments import DiscretePoint
from point_data import SPEC, init, learned_return, logged_batch, one_state_logged_batch, point_transitions
from support.closeness import assert_close
from support.seeds import learning_seed

from maxent_rl.agents import SAC, acting_state, check_agent
from maxent_rl.agents.offline.cql import CQL
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError

SMALL = CQL(hidden_sizes=(8,), batch_size=8, sampled_actions=3)
LAGRANGE = SMALL.replace(lagrange_threshold=0.5)


def test_published_defaults():
    agent = CQL()
    assert (agent.conservative_weight, agent.sampled_actions, agent.lagrange_threshold) == (5.0, 10, None)
    assert (agent.learning_rate, agent.policy_learning_rate, agent.entropy_backup) == (3e-4, 1e-4, False)
    assert not hasattr(agent, "replay_size") and not hasattr(agent, "start_steps")


@pytest.mark.slow
@pytest.mark.parametrize("agent", [SMALL, LAGRANGE.replace(entropy_backup=True)])
def test_update_keeps_structure_and_types_and_stays_finite(agent):
    check_agent(agent, SPEC, "test")
    state = init(agent, jax.random.key(0))
    after, metrics = update(agent, state, logged_batch(), jax.random.key(1))
    assert_alike(state, after)
    assert all(np.isfinite(value) for value in metrics.values())
    assert {"conservative/gap", "conservative/weight", "critic/loss", "actor/entropy"} <= set(metrics)


@pytest.mark.slow
def test_with_a_penalty_that_weighs_nothing_it_is_sac():
    settings = {"hidden_sizes": (8,), "batch_size": 8}
    sac = SAC(**settings, learning_rate=3e-4)
    cql = CQL(**settings, sampled_actions=3, conservative_weight=0.0, entropy_backup=True, policy_learning_rate=3e-4)
    ours, theirs = init(cql, jax.random.key(0)), init(sac, jax.random.key(0))
    for index in range(5):
        batch, key = logged_batch(seed=index), jax.random.key(index)
        ours, _ = update(cql, ours, batch, key)
        theirs, _ = update(sac, theirs, batch, key)
    # Two programs. Adam divides each entry by its own size, so that what is small in a gradient keeps fewer digits.
    for name, value in vars(theirs).items():
        assert_close(jax.tree.leaves(getattr(ours, name)), jax.tree.leaves(value), rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_without_entropy_backup_targets_are_values_alone():
    state, batch = init(SMALL, jax.random.key(0)), logged_batch()
    noise, key = jnp.zeros((8, 2)), jax.random.key(1)
    action, charged = SMALL.follow(state, batch, noise, key)
    same_action, log_prob = SMALL.replace(entropy_backup=True).follow(state, batch, noise, key)
    np.testing.assert_array_equal(action, same_action)
    assert np.all(charged == 0) and np.any(log_prob != 0)


@pytest.mark.slow
def test_densities_are_those_of_the_three_places_that_actions_come_from():
    state, batch = init(SMALL, jax.random.key(0)), logged_batch()
    action, log_density = SMALL._sample(state.policy, batch, jax.random.key(1))
    assert action.shape == (9, 8, 2) and np.all(np.abs(action) <= 1)
    np.testing.assert_allclose(log_density[:3], -2 * np.log(2.0), rtol=1e-6)
    for rows, observation in ((slice(3, 6), batch.observation), (slice(6, 9), batch.next_observation)):
        expected = SMALL.policy(state.policy, observation).log_prob(action[rows])
        np.testing.assert_allclose(log_density[rows], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_the_penalty_raises_the_data_above_other_actions():
    batch = one_state_logged_batch(1.0)
    away = jnp.full((8, 2), 0.9)

    def margin(weight):
        agent = SMALL.replace(conservative_weight=weight, learning_rate=1e-2)
        state = init(agent, jax.random.key(0))
        for index in range(60):
            state, _ = update(agent, state, batch, jax.random.key(index))
        here, there = (
            agent.values(state.critics, batch.observation, a, jax.random.key(0)) for a in (batch.action, away)
        )
        return jnp.mean(here - there)

    assert margin(5.0) > margin(0.0) + 0.5


@pytest.mark.slow
def test_the_weight_rises_while_the_penalty_is_above_its_threshold_and_falls_below():
    """The first step of Adam is the learning rate."""
    for threshold, sign in ((-100.0, 1.0), (100.0, -1.0)):
        agent = SMALL.replace(lagrange_threshold=threshold)
        state = init(agent, jax.random.key(0))
        after, metrics = update(agent, state, logged_batch(), jax.random.key(1))
        np.testing.assert_allclose(after.log_weight - state.log_weight, sign * 3e-4, rtol=1e-3)
        np.testing.assert_allclose(metrics["conservative/weight"], np.exp(after.log_weight), rtol=1e-6)


@pytest.mark.slow
def test_the_policy_has_a_step_size_of_its_own():
    state = init(SMALL, jax.random.key(0))
    after, _ = update(SMALL.replace(policy_learning_rate=1e-9), state, logged_batch(), jax.random.key(1))
    moved = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), state.policy, after.policy)
    assert max(jax.tree.leaves(moved)) < 1e-7 and not same(state.critics, after.critics)


def test_acting_needs_only_the_acting_state():
    state = init(LAGRANGE, jax.random.key(0))
    part = acting_state(LAGRANGE, state)
    assert part.log_weight is None and part.weight_optimizer is None and part.critics is None
    observation = jnp.ones((4, 3))
    np.testing.assert_array_equal(LAGRANGE.mode(part, observation), LAGRANGE.mode(state, observation))


def test_what_cannot_work_is_refused():
    with pytest.raises(IncompatibleEnvironmentError, match="--agent cql-discrete handles those"):
        check_agent(SMALL, DiscretePoint().spec, "Maze-v0")
    with pytest.raises(InvalidSettingError, match="needs a --conservative-weight greater than 0"):
        check_agent(LAGRANGE.replace(conservative_weight=0.0), SPEC, "test")


@pytest.mark.learning
def test_it_learns_from_mixed_data_what_cloning_cannot():
    """Random actions return -15.5, cloning less, steps straight to the origin -1.5; 20 seeds -1.75 with deviation 0.03."""
    agent = CQL(
        hidden_sizes=(32, 32), batch_size=128, discount=0.9, learning_rate=1e-3, target_update_rate=0.02,
        policy_learning_rate=1e-3, conservative_weight=1.0, sampled_actions=4,
    )  # fmt: skip
    assert learned_return(agent, point_transitions(), 1500, learning_seed()) > -3
