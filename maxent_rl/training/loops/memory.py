"""What an on-policy agent remembers while it collects: of the episodes so far, and of those with which its window began.

An update replays its window from the memory with which the window began, and so knows what the agent knew at each step.
Memories of episodes that still run were computed with the parameters before the update; they stay as they are, as usual for
recurrent policies. Agents that do not remember have an empty memory here, without a single array.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from maxent_rl.agents.base import Agent, Remembers, fresh_memory
from maxent_rl.data.buffers.rows import RowLayout
from maxent_rl.seeds.mesh import SAME, SEEDS, divide_batch, over_seeds, sharded, spread
from maxent_rl.training.loops.plan import Learner, Learning
from maxent_rl.types import Array, Metrics, PyTree


def keeps_memory(agent: Agent[Any]) -> bool:
    """Whether loops that collect carry a memory for the agent; an offline agent has one only where it is played."""
    return agent.learns == "rollout" and isinstance(agent, Remembers)


def start_memory(agent: Agent[Any], state: PyTree, num_envs: int) -> PyTree:
    """The memory of one seed whose environments all begin an episode: a pytree of [env, ...]."""
    return fresh_memory(agent, state, (num_envs,)) if keeps_memory(agent) else ()


def advance_memory(agent: Any, state: PyTree, memory: PyTree, layout: RowLayout, rows: Array) -> PyTree:
    """The memory of one seed after a step; a fresh one where the step ended an episode.

    Args:
      agent: the agent.
      state: of one seed, as it acted.
      memory: before the step, a pytree of [env, ...].
      layout: of the rows.
      rows: [env, width] the packed transitions of the step.
    """
    if not keeps_memory(agent):
        return ()
    step = layout.unpack(rows)
    after = agent.remember(state, memory, step.observation, step.action, step.reward)
    done = step.terminated + step.truncated > 0
    fresh = start_memory(agent, state, len(rows))
    # Mapped over the environments, each leaf whatever its further axes meets one flag.
    return jax.tree.map(lambda new, old: jax.vmap(jnp.where)(done, new, old), fresh, after)


def chosen(condition: Array, memory: PyTree, other: PyTree) -> PyTree:
    """One memory or another, by a [] flag."""
    return jax.tree.map(lambda one, two: jnp.where(condition, one, two), memory, other)


def update_recalling(
    agent: Any, mesh: Mesh | None, state: PyTree, memory: PyTree, batch: PyTree, key: Array
) -> tuple[PyTree, Metrics]:
    """`agent.update`, with the memory in the state with which the batch began, if the agent keeps one, and without it after.

    Args:
      agent: the agent.
      mesh: as of `divide_batch`: the memory is divided as its window is, by environments.
      state: of one seed.
      memory: a pytree of [env, ...].
      batch: to learn from.
      key: [] random key.
    """
    if not keeps_memory(agent):
        plain: tuple[PyTree, Metrics] = agent.update(state, batch, key)
        return plain
    state, metrics = agent.update(agent.recalling(state, divide_batch(mesh, memory)), batch, key)
    return agent.recalling(state, None), metrics


def forget_episodes(agent: Agent[Any], learner: Learner, learning: Learning) -> Learner:
    """The learner whose environments have all begun new episodes; itself, if the agent keeps no memory.

    A window that is under way keeps the memory with which it began; that new episodes began within it, its rows do not tell.
    """
    if not keeps_memory(agent):
        return learner
    seeds = learner.seeds
    begins = learner.counters.inserted % learning.layout.capacity == 0
    memory, window_memory = _forget(agent, seeds.agent, seeds.window_memory, begins, learning)
    return dataclasses.replace(learner, seeds=dataclasses.replace(seeds, memory=memory, window_memory=window_memory))


@partial(jax.jit, static_argnames="learning")
def _forget(
    agent: Agent[Any], states: PyTree, window_memory: PyTree, begins: Array, learning: Learning
) -> tuple[PyTree, PyTree]:
    def run(agent: Agent[Any], states: PyTree, window_memory: PyTree, begins: Array) -> tuple[PyTree, PyTree]:
        def one(agent: Agent[Any], state: PyTree, window_memory: PyTree) -> tuple[PyTree, PyTree]:
            fresh = start_memory(agent, state, learning.num_envs)
            return fresh, chosen(begins, fresh, window_memory)

        forgotten: tuple[PyTree, PyTree] = over_seeds(one, agent, states, window_memory)
        return forgotten

    run = sharded(learning.mesh, run, (spread(agent), SEEDS, SEEDS, SAME), (SEEDS, SEEDS))
    forgotten: tuple[PyTree, PyTree] = run(agent, states, window_memory, begins)
    return forgotten
