"""Environments with chance in them: Gymnasium's dynamics, the bandit's odds, and the numbers in their names."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl import envs
from maxent_rl.envs import reset_batch, step_batch
from maxent_rl.errors import UnknownNameError


@pytest.mark.parametrize("slipping", [0.0, 0.3, 2 / 3, 1.0])
def test_the_lake_has_gymnasiums_dynamics(slipping):
    theirs = gymnasium.make("FrozenLake-v1", success_rate=1.0 - slipping).unwrapped
    table = envs.make_device(f"maxent/FrozenLake-{slipping}").table
    probability, reward = np.zeros_like(table.probability), np.zeros(16)
    terminal = np.zeros(16, bool)
    for state, actions in theirs.P.items():
        for action, outcomes in actions.items():
            for chance, following, paid, ended in outcomes:
                probability[state, action, following] += chance
                if not terminal[state] and state != following:
                    reward[following] = max(reward[following], paid)
                terminal[following] |= bool(ended)
    np.testing.assert_allclose(table.probability, probability, atol=1e-12)
    np.testing.assert_array_equal(table.terminal, terminal)
    np.testing.assert_array_equal(table.reward, reward)


@pytest.mark.slow
def test_the_lakes_steps_follow_its_table():
    env = envs.make_device("maxent/FrozenLake-0.5")
    keys = jax.random.split(jax.random.key(0), 4_000)
    (tile, _), observation, reward, ended = jax.vmap(lambda key: env.step((jnp.int32(14), key), jnp.int32(2)))(keys)
    share = np.bincount(tile, minlength=16) / len(keys)
    np.testing.assert_allclose(share, env.table.probability[14, 2], atol=0.025)
    np.testing.assert_array_equal(np.argmax(observation, axis=1), tile)
    np.testing.assert_array_equal(reward, tile == 15)
    np.testing.assert_array_equal(ended, tile == 15)


@pytest.mark.slow
def test_without_slipping_the_shortest_way_pays_one_and_the_horizon_cuts():
    env = envs.make_device("maxent/FrozenLake-0")
    state = reset_batch(env, jax.random.split(jax.random.key(0), (1, 2)))
    for action in (1, 1, 2, 1, 2, 2):
        state, step = step_batch(env, state, jnp.array([[action, 0]]))
    assert step.terminated[0, 0] and step.reward[0, 0] == 1.0 and not step.terminated[0, 1]
    assert env.spec.horizon == 100


def test_the_bandits_arms_pay_with_their_odds():
    env = envs.make_device("maxent/BernoulliBandit-0.2")
    keys = jax.random.split(jax.random.key(1), 4_000)
    for arm, odds in ((0, 0.2), (1, 0.8)):
        reward = jax.vmap(lambda key, arm=arm: env.step(key, jnp.int32(arm))[2])(keys)
        np.testing.assert_allclose(np.mean(reward), odds, atol=0.025)


def test_without_a_number_they_have_their_own():
    assert envs.make_device("maxent/FrozenLake").slipping == 2 / 3
    assert envs.make_device("maxent/BernoulliBandit").probability == 0.1


@pytest.mark.parametrize("number", ["2", "-0.1", "much", "nan"])
def test_what_is_no_probability_is_refused(number):
    with pytest.raises(
        UnknownNameError, match=r"takes a probability from 0 to 1 behind its name, as in maxent/FrozenLake-"
    ):
        envs.make_device(f"maxent/FrozenLake-{number}")
