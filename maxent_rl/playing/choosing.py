"""How a policy chooses: its most likely actions, sampled ones, or uniform ones that ask no policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from maxent_rl.agents.base import recalling
from maxent_rl.agents.programs import program_of_agent
from maxent_rl.seeds.mesh import over_seeds
from maxent_rl.types import Array, PyTree, Spec

Choose: TypeAlias = Callable[[Any, PyTree, Array, Array | None], tuple[Array, PyTree]]
"""How one seed's agent acts: (agent, state, observation [env, observation], key) to actions [env, action], and notes on
them, a pytree of [env, ...]. The key is None where nothing is sampled. What the agent remembers of the episodes is in the
state already."""


# A stream of random numbers for sampled actions, beside those of `seeds.streams`, which count up from 0.
_SAMPLES = 2**31 - 1


def most_likely(agent: Any, state: PyTree, observation: Array, key: Array | None) -> tuple[Array, PyTree]:
    """`Choose` for the most likely actions."""
    return agent.mode(state, observation), ()


def sampled_action(agent: Any, state: PyTree, observation: Array, key: Array | None) -> tuple[Array, PyTree]:
    """`Choose` for actions drawn from the policy."""
    return agent.act(state, observation, key), ()


@program_of_agent("choose")
def choose_actions(
    agent: Any, states: PyTree, memory: PyTree, observation: Array, keys: Array | None, elapsed: Array, choose: Choose
) -> tuple[Array, PyTree]:
    """[seed, env, observation] to actions [seed, env, action] and notes on them."""

    def draw(key: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(key, _SAMPLES), elapsed)

    drawn = None if keys is None else jax.vmap(draw)(keys)

    def one(agent: Any, state: PyTree, memory: PyTree, observation: Array, key: Array | None) -> tuple[Array, PyTree]:
        return choose(agent, recalling(agent, state, memory), observation, key)

    chosen: tuple[Array, PyTree] = over_seeds(one, agent, states, memory, observation, drawn)
    return chosen


def uniform_actions(spec: Spec, count: int, key: Array) -> Array:
    """[count, action] drawn uniformly from all that an agent can do; choices are floats [count] or [count, entry]."""
    shape = (count, *spec.action_shape)
    if spec.choices is not None:
        return jax.random.randint(key, shape, 0, jnp.asarray(spec.choices)).astype(jnp.float32)
    if spec.num_actions is not None:
        return jax.random.randint(key, shape, 0, spec.num_actions).astype(jnp.float32)
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
