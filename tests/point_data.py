"""Transitions of `environments.Point` from a mixed policy, what agents learn from them, and what they then earn."""

from __future__ import annotations

from functools import partial

import batches
import jax
import jax.numpy as jnp
import numpy as np
from environments import Point

from maxent_rl.data.batches.logged import LoggedTransitions
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.types import LoggedTransition, Spec

SPEC = Spec((3,), (2,), 100)
"""Of the transitions of `logged_batch`."""


def init(agent, key):
    """The first state of a seed that learns from `logged_batch`."""
    return batches.init(agent, key, SPEC)


def mixed_point_data(episodes=30, seed=0, good=0.4, horizon=20):
    """Steps towards the origin with probability `good`, else away from it, both with noise: cloning's mean leads away."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(episodes):
        position = random.uniform(-1, 1, 2)
        for elapsed in range(1, horizon + 1):
            towards = -np.clip(position / 0.1, -1, 1) if random.uniform() < good else np.sign(position)
            action = np.clip(towards + 0.3 * random.normal(size=2), -0.99, 0.99)
            after = position + 0.1 * action
            terminated = bool(np.any(np.abs(after) > 3))
            rows.append((position, action, -np.sum(after**2), after, terminated, not terminated and elapsed == horizon))
            position = after
            if terminated:
                break
    observation, action, reward, after, terminated, truncated = (np.array(column) for column in zip(*rows, strict=True))
    floats = (array.astype(np.float32) for array in (observation, action, reward, after))
    return Dataset(*floats, terminated.astype(bool), truncated.astype(bool), "Point")


def logged_batch(size=8, seed=0, **overrides):
    """Random transitions of three observed numbers and two actions; fields can be given."""
    return LoggedTransition(**(_random_fields(size, seed) | overrides))


@partial(jax.jit, static_argnames="size")
def _random_fields(size, seed):
    keys = jax.random.split(jax.random.key(seed), 5)
    uniform = partial(jax.random.uniform, shape=(size, 2), minval=-0.9, maxval=0.9)
    return {
        "observation": jax.random.normal(keys[0], (size, 3)),
        "action": uniform(keys[1]),
        "reward": jax.random.normal(keys[2], (size,)),
        "next_observation": jax.random.normal(keys[3], (size, 3)),
        "terminated": jnp.zeros(size),
        "truncated": jnp.zeros(size),
        "steps": jnp.ones(size),
        "next_action": uniform(keys[4]),
        "followed": jnp.ones(size),
        "return_to_go": jnp.zeros(size),
    }


def one_state_logged_batch(terminated):
    """Every step starts and ends in the same state, pays 1, and ends the episode, by termination (1) or truncation (0)."""
    zeros = jnp.zeros((8, 3))
    return logged_batch(
        reward=jnp.ones(8), observation=zeros, next_observation=zeros, action=jnp.zeros((8, 2)), followed=jnp.zeros(8),
        terminated=jnp.full(8, terminated), truncated=jnp.full(8, 1 - terminated),
    )  # fmt: skip


def learn(agent, state, batch, updates):
    """Takes updates from the same batch."""
    return _learn(type(agent), agent, state, batch, updates)


@partial(jax.jit, static_argnums=0)
def _learn(kind, agent, state, batch, updates):
    return jax.lax.fori_loop(0, updates, lambda i, s: agent.update(s, batch, jax.random.key(i))[0], state)


def learned_return(agent, data, updates, seed=0, episodes=64):
    """Learns from the data and gives the mean return of the most likely actions."""
    return _learned_return(type(agent), agent, data, updates, seed, episodes)


@partial(jax.jit, static_argnums=(0, 5))
def _learned_return(kind, agent, data, updates, seed, episodes):
    key = jax.random.key(seed)
    state = agent.init(key, Point().spec)
    state = agent.begin(state, data) if hasattr(agent, "begin") else state

    def update(index, state):
        sample_key, update_key = jax.random.split(jax.random.fold_in(key, index))
        return agent.update(state, data.sample(sample_key, agent.batch_size), update_key)[0]

    state = jax.lax.fori_loop(0, updates, update, state)
    return point_return(lambda observation, key: agent.mode(state, observation), episodes)


def point_return(policy, episodes=64):
    """Mean return of `policy(observation, key)` on `Point`; nothing terminates within its horizon's reach that matters."""
    env = Point()

    def step(carry, key):
        state, observation = carry
        state, observation, reward, _ = env.step(state, jnp.clip(policy(observation, key), -1, 1))
        return (state, observation), reward

    def episode(key):
        reset_key, step_key = jax.random.split(key)
        _, rewards = jax.lax.scan(step, env.reset(reset_key), jax.random.split(step_key, env.horizon))
        return jnp.sum(rewards)

    return jnp.mean(jax.vmap(episode)(jax.random.split(jax.random.key(99), episodes)))


def point_transitions(episodes=100, discount=0.9):
    """Mixed transitions on the device."""
    return LoggedTransitions.create(mixed_point_data(episodes), discount)
