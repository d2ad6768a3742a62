"""Batches of transitions for agents that are tested without an environment, and how states are compared."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.types import Transition


@partial(jax.jit, static_argnums=(0, 1))
def _call(kind, method, given, *arguments):
    return getattr(given, method)(*arguments)


def compiled(given, method, *arguments):
    """Calls a method in one program, where eagerly there would be one for each of its operations.

    The class is part of what the program is kept under: to JAX 0.10.2 two dataclasses with equally many fields are the same
    structure, with different hashes, so that one call in a hundred would be answered by the other class's program.
    """
    return _call(type(given), method, given, *arguments)


@partial(jax.jit, static_argnums=(0, 3))
def _init(kind, agent, key, spec):
    return agent.init(key, spec)


def init(agent, key, spec):
    """The first state of a seed."""
    return _init(type(agent), agent, key, spec)


def update(agent, state, batch, key):
    """(state, metrics) after one update."""
    return compiled(agent, "update", state, batch, key)


def act(agent, state, observation, key):
    """Drawn actions."""
    return compiled(agent, "act", state, observation, key)


def mode(agent, state, observation):
    """The most likely actions."""
    return compiled(agent, "mode", state, observation)


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
