"""Batches of transitions for agents that are tested without an environment, and how states are compared."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.types import Transition

# Programs that all tests share: eagerly, each would be a hundred programs of one operation.
init = jax.jit(lambda agent, key, spec: agent.init(key, spec), static_argnames="spec")
update = jax.jit(lambda agent, state, batch, key: agent.update(state, batch, key))
act = jax.jit(lambda agent, state, observation, key: agent.act(state, observation, key))
mode = jax.jit(lambda agent, state, observation: agent.mode(state, observation))


def batch_of(size=8, seed=0, **overrides):
    """Random transitions of three observed numbers and two actions; fields can be given."""
    return Transition(**(_random_fields(size, seed) | overrides))


@partial(jax.jit, static_argnames="size")
def _random_fields(size, seed):
    keys = jax.random.split(jax.random.key(seed), 4)
    return {
        "observation": jax.random.normal(keys[0], (size, 3)),
        "action": jax.random.uniform(keys[1], (size, 2), minval=-1, maxval=1),
        "reward": jax.random.normal(keys[2], (size,)),
        "next_observation": jax.random.normal(keys[3], (size, 3)),
        "terminated": jnp.zeros(size),
        "truncated": jnp.zeros(size),
        "steps": jnp.ones(size),
    }


def one_state_batch(terminated, **overrides):
    """Every step starts and ends in the same state, pays 1, and ends the episode, by termination (1) or truncation (0)."""
    flags = {"terminated": jnp.full(8, terminated), "truncated": jnp.full(8, 1 - terminated)}
    zeros = {"observation": jnp.zeros((8, 3)), "next_observation": jnp.zeros((8, 3))}
    return batch_of(reward=jnp.ones(8), **zeros, **flags, **overrides)


def same(first, second):
    """Whether two pytrees are equal, bit by bit."""
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


def assert_alike(before, after):
    """Structure, shapes and types are the same, and all numbers are finite."""
    jax.tree.map(lambda a, b: np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)), before, after)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
