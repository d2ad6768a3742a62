"""CartPole and MountainCar in JAX: step by step what Gymnasium's do."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl import envs

PAIRS = [("CartPole", "CartPole-v1"), ("MountainCar", "MountainCar-v0")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gymnasium_id"), PAIRS)
def test_every_step_is_gymnasiums(name, gymnasium_id):
    ours, theirs = envs.make_device(f"maxent/{name}"), gymnasium.make(gymnasium_id).unwrapped
    step, random = jax.jit(ours.step), np.random.default_rng(0)
    ended = 0
    for episode in range(10):
        observation, _ = theirs.reset(seed=episode)
        if (
            name == "MountainCar" and episode % 2
        ):  # near the goal, and near the left edge, which random actions rarely reach
            theirs.state = observation = np.array([0.45, 0.05] if episode % 4 == 1 else [-1.15, -0.05], np.float32)
        state = jnp.asarray(observation)
        for _ in range(100):
            action = int(random.integers(theirs.action_space.n))
            observation, reward, terminated, _, _ = theirs.step(action)
            state, shown, own_reward, own_terminated = step(state, jnp.int32(action))
            np.testing.assert_allclose(shown, observation, atol=2e-5)
            assert (float(own_reward), bool(own_terminated)) == (reward, terminated)
            state = jnp.asarray(observation)
            if terminated:
                ended += 1
                break
    assert ended


@pytest.mark.parametrize(("name", "gymnasium_id"), PAIRS)
def test_starts_horizon_and_actions_are_gymnasiums(name, gymnasium_id):
    ours, theirs = envs.make_device(f"maxent/{name}"), gymnasium.make(gymnasium_id)
    assert ours.spec.horizon == theirs.spec.max_episode_steps
    assert ours.spec.num_actions == theirs.action_space.n
    assert ours.spec.observation_shape == theirs.observation_space.shape
    starts = np.asarray(jax.vmap(lambda key: ours.reset(key)[1])(jax.random.split(jax.random.key(0), 2_000)))
    expected = np.stack([theirs.reset(seed=seed)[0] for seed in range(2_000)])
    np.testing.assert_allclose(starts.mean(axis=0), expected.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(starts.min(axis=0), expected.min(axis=0), atol=0.002)
    np.testing.assert_allclose(starts.max(axis=0), expected.max(axis=0), atol=0.002)
