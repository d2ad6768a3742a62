"""Catch: step by step what the rules say in NumPy, what it pays, and that it takes looking."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import HostCatch

from maxent_rl import envs

NAMES = {"Catch": False, "CatchContinuous": True}


@pytest.mark.parametrize("name", NAMES)
def test_every_step_is_that_of_the_rules(name):
    ours, theirs, random = envs.make_device(f"maxent/{name}"), HostCatch(NAMES[name]), np.random.default_rng(0)
    reset, step = jax.jit(ours.reset), jax.jit(ours.step)
    assert (ours.spec.frames, ours.spec.horizon) == (((32, 32, 1),), 7)
    caught = 0
    for episode in range(20):
        state, image = reset(jax.random.key(episode))
        theirs.reset()
        theirs.column = int(state.column)
        np.testing.assert_array_equal(image, np.ravel(theirs.image()))
        for number in range(7):
            action = random.uniform(-1, 1, 1).astype(np.float32) if NAMES[name] else random.integers(3)
            state, image, paid, landed = step(state, jnp.asarray(action))
            wanted, reward, terminated, _, _ = theirs.step(action)
            np.testing.assert_array_equal(image, np.ravel(wanted))
            assert (float(paid), bool(landed)) == (reward, terminated) and terminated == (number == 6)
            caught += reward > 0
    assert 0 < caught < 20


def test_every_block_can_be_caught_and_a_paddle_that_stays_catches_five_of_29():
    ours = envs.make_device("maxent/Catch")

    @jax.jit
    @jax.vmap
    def play(column, stays):
        state = ours.reset(jax.random.key(0))[0].replace(column=column)
        paid = 0.0
        for _ in range(7):
            away = state.column + 2 - (state.paddle + 4)  # of the centres
            state, _, paid, _ = ours.step(state, jnp.where(stays | (jnp.abs(away) <= 2), 1, jnp.where(away > 0, 2, 0)))
        return paid

    columns = jnp.arange(29, dtype=jnp.float32)
    assert float(jnp.mean(play(columns, jnp.zeros(29, bool)))) == 1.0
    assert int(jnp.sum(play(columns, jnp.ones(29, bool)) > 0)) == 5
