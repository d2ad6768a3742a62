"""Transitions of a data set on the device: what a batch says, returns to go, and what came after."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxent_rl.data.batches.logged import LoggedTransitions, returns_to_go
from maxent_rl.data.datasets.dataset import Dataset

FIELDS = ("observation", "action", "reward", "next_observation", "terminated", "truncated")


def counted(discrete=False):
    """Seven steps: three that terminate, two that are cut, and two that go on; step n observes n and pays n."""
    number = np.arange(7, dtype=np.float32)
    return Dataset(
        observation=np.stack([number, -number], axis=1),
        action=number.astype(np.int32) if discrete else np.stack([number / 10, -number / 10], axis=1),
        reward=number,
        next_observation=np.stack([number + 1, -number - 1], axis=1),
        terminated=number == 2,
        truncated=number == 4,
    )


def all_of(logged):
    return logged.unpack(logged.rows)


@pytest.mark.parametrize("discrete", [False, True])
def test_a_batch_says_what_stands_in_the_data(discrete):
    data = counted(discrete)
    logged = LoggedTransitions.create(data, 0.5)
    found = all_of(logged)
    for name in FIELDS:
        np.testing.assert_allclose(getattr(found, name), getattr(data, name), err_msg=name)
    np.testing.assert_array_equal(found.steps, np.ones(7))
    np.testing.assert_array_equal(logged.observations, data.observation)
    assert logged.size == 7 and all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("discrete", [False, True])
def test_the_next_action_is_the_datas_own_and_never_that_of_another_episode(discrete):
    data = counted(discrete)
    found = all_of(LoggedTransitions.create(data, 0.5))
    np.testing.assert_array_equal(found.followed, [1, 1, 0, 1, 0, 1, 0])
    expected = np.zeros_like(data.action)
    expected[[0, 1, 3, 5]] = data.action[[1, 2, 4, 6]]
    np.testing.assert_allclose(found.next_action, expected)


def test_returns_to_go_by_hand():
    """With discount 1/2: 0 + 1/2 + 2/4, 1 + 2/2, 2; 3 + 4/2, 4; the data breaks off the third episode."""
    found = all_of(LoggedTransitions.create(counted(), 0.5)).return_to_go
    np.testing.assert_allclose(found, [1.0, 2.0, 2.0, 5.0, 4.0, np.nan, np.nan])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(-10, 10, width=32), st.booleans()), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
)
def test_returns_to_go_are_the_direct_sum(steps, discount):
    reward = np.array([paid for paid, _ in steps], np.float32)
    ended = np.array([end for _, end in steps])
    for index, found in enumerate(returns_to_go(reward, ended, discount)):
        last = index + int(np.argmax(ended[index:])) if ended[index:].any() else len(reward) - 1
        rewards = reward[index : last + 1].astype(np.float64)
        assert found == pytest.approx(np.sum(rewards * discount ** np.arange(len(rewards))), rel=1e-5, abs=1e-5)


def test_batches_are_drawn_uniformly_with_replacement_and_by_their_key():
    logged = LoggedTransitions.create(counted(), 0.9)
    sample = jax.jit(lambda key: logged.sample(key, 7000))
    found = sample(jax.random.key(0))
    assert found.observation.shape == (7000, 2) and found.action.shape == (7000, 2) and found.reward.shape == (7000,)
    count = np.bincount(np.asarray(found.reward, int), minlength=7)
    assert np.abs(count - 1000).max() < 5 * np.sqrt(1000 * 6 / 7)
    np.testing.assert_array_equal(found.observation[:, 0], found.reward)  # entries of a row stay together
    np.testing.assert_array_equal(sample(jax.random.key(0)).reward, found.reward)
    assert not np.array_equal(sample(jax.random.key(1)).reward, found.reward)


@pytest.mark.slow
def test_a_data_set_is_a_pytree_that_jit_takes():
    logged = LoggedTransitions.create(counted(discrete=True), 0.9)
    many = jax.vmap(lambda key: logged.sample(key, 5))(jax.random.split(jax.random.key(0), 3))
    assert many.action.shape == (3, 5) and many.observation.shape == (3, 5, 2)
    assert jax.jit(lambda data, key: data.sample(key, 4))(logged, jax.random.key(0)).next_action.shape == (4,)


def test_a_single_step():
    data = counted().part(6, 7)
    found = LoggedTransitions.create(data, 0.9).sample(jax.random.key(0), 3)
    np.testing.assert_array_equal(found.followed, np.zeros(3))
    assert np.isnan(found.return_to_go).all()
