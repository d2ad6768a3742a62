"""Behaviour cloning: of choices, of actions by least squares, and of actions by likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import act, assert_alike, init, mode, update
from environments import DiscretePoint, Point

from maxent_rl.agents import check_agent
from maxent_rl.agents.imitation.bc import BC
from maxent_rl.errors import InvalidSettingError
from maxent_rl.types import LoggedTransition, Spec

KEY = jax.random.key(0)
SMALL = {"hidden_sizes": (8,), "learning_rate": 0.02}
CHOICES, CONTINUOUS = Spec((2,), (), 20, num_actions=3), Spec((2,), (2,), 20)


def logged(action):
    """All from one observation; BC reads nothing else."""
    size = len(action)
    zeros = jnp.zeros(size)
    seen = jnp.ones((size, 2))
    return LoggedTransition(
        observation=seen,
        action=action,
        reward=jnp.full(size, jnp.nan),
        next_observation=seen * jnp.nan,
        terminated=zeros,
        truncated=zeros,
        next_action=action,
        followed=zeros,
        return_to_go=zeros,
        steps=zeros + 1,
    )


def trained(agent, spec, batch, updates=500):
    def step(state, key):
        return agent.update(state, batch, key)

    return jax.jit(lambda state: jax.lax.scan(step, state, jax.random.split(KEY, updates))[0])(init(agent, KEY, spec))


@pytest.mark.slow
def test_probabilities_become_the_datas_frequencies():
    agent, batch = BC(**SMALL), logged(jnp.array([0.0, 1.0, 1.0, 2.0, 1.0]))
    state = trained(agent, CHOICES, batch)
    found = jax.jit(agent.log_prob)(state.policy, jnp.ones((3, 2)), jnp.arange(3.0))
    np.testing.assert_allclose(np.exp(found), [0.2, 0.6, 0.2], atol=0.01)
    assert mode(agent, state, jnp.ones((4, 2))).tolist() == [1] * 4
    drawn = act(agent, state, jnp.ones((2_000, 2)), KEY)
    np.testing.assert_allclose(np.bincount(drawn) / 2_000, [0.2, 0.6, 0.2], atol=0.05)


@pytest.mark.slow
def test_least_squares_give_the_mean_action():
    agent, batch = BC(**SMALL), logged(jnp.array([[0.1, -0.5], [0.5, -0.1]]))
    state = trained(agent, CONTINUOUS, batch)
    np.testing.assert_allclose(mode(agent, state, jnp.ones(2)), [0.3, -0.3], atol=0.01)
    assert (act(agent, state, jnp.ones(2), KEY) == mode(agent, state, jnp.ones(2))).all()


@pytest.mark.slow
def test_likelihood_gives_mean_and_spread_before_squashing():
    before = 0.4 + 0.3 * jnp.array([[-1.0, 1.0], [1.0, -1.0]])
    agent = BC(**SMALL, density="gaussian")
    state = trained(agent, CONTINUOUS, logged(jnp.tanh(before)))
    np.testing.assert_allclose(mode(agent, state, jnp.ones(2)), np.tanh([0.4, 0.4]), atol=0.01)
    drawn = np.arctanh(act(agent, state, jnp.ones((4_000, 2)), KEY))
    np.testing.assert_allclose(drawn.std(0), [0.3, 0.3], atol=0.02)


@pytest.mark.parametrize("spec", [CHOICES, CONTINUOUS], ids=["choices", "continuous"])
def test_an_update_keeps_structure_and_acting_drops_the_optimizer(spec):
    agent, action = BC(**SMALL), jnp.zeros((4, *spec.action_shape))
    state = init(agent, KEY, spec)
    after, metrics = update(agent, state, logged(action), KEY)
    assert_alike(state, after)
    assert set(metrics) == {"imitation/loss"} and agent.acting(after).optimizer is None
    assert mode(agent, agent.acting(after), jnp.ones((3, 2))).shape == (3, *spec.action_shape)


def test_both_kinds_of_actions_fit_and_impossible_bounds_are_refused():
    for env in (Point(), DiscretePoint()):
        check_agent(BC(), env.spec, "test")
    with pytest.raises(InvalidSettingError, match="--log-std-min must be less than --log-std-max"):
        check_agent(BC(log_std_min=3.0), Point().spec, "test")
