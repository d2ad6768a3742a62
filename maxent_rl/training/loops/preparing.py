"""What an agent learns from fixed data before it acts, such as a reward from preferences."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import numpy as np

from maxent_rl.agents.base import Agent
from maxent_rl.seeds.mesh import SAME, SEEDS, over_seeds, place, sharded, spread
from maxent_rl.seeds.streams import PREPARE
from maxent_rl.training.loops.contract import check_learning, is_own
from maxent_rl.training.loops.plan import Learner, Learning
from maxent_rl.types import Array, Metrics, PyTree


def prepare_learner(
    agent: Agent[Any], learner: Learner, data: PyTree, held_out: PyTree, learning: Learning
) -> tuple[Learner, list[dict[str, float]]]:
    """Lets an agent learn from fixed data what it needs before it acts (`PreparesFromData`).

    Args:
      agent: with numbers as arrays.
      learner: of all seeds, before the first step.
      data: the same for all seeds.
      held_out: kept apart for measuring, or None.
      learning: the static side.

    Returns:
      (learner, one dict of scalars for each seed).
    """
    if is_own(agent):
        member, state = jax.tree.map(lambda leaf: leaf[0] if leaf.ndim else leaf, (agent, learner.seeds.agent))
        check_learning(
            member, "prepare", lambda agent, *rest: agent.prepare(*rest), state, data, held_out, learner.seeds.key[0]
        )
    data, held_out = place(learning.mesh, (data, held_out), SAME)
    states, found = _prepare(agent, learner.seeds.agent, learner.seeds.key, data, held_out, learning)
    values = {name: np.asarray(value) for name, value in found.items()}
    rows = [{name: float(value[index]) for name, value in values.items()} for index in range(len(learner.seeds.key))]
    return dataclasses.replace(learner, seeds=dataclasses.replace(learner.seeds, agent=states)), rows


@partial(jax.jit, static_argnames="learning")
def _prepare(
    agent: Agent[Any], states: PyTree, keys: Array, data: PyTree, held_out: PyTree, learning: Learning
) -> tuple[PyTree, Metrics]:
    def run(agent: Agent[Any], states: PyTree, keys: Array, data: PyTree, held_out: PyTree) -> tuple[PyTree, Metrics]:
        def one(agent: Any, state: PyTree, key: Array) -> tuple[PyTree, Metrics]:
            found: tuple[PyTree, Metrics] = agent.prepare(state, data, held_out, jax.random.fold_in(key, PREPARE))
            return found

        prepared: tuple[PyTree, Metrics] = over_seeds(one, agent, states, keys)
        return prepared

    run = sharded(learning.mesh, run, (spread(agent), SEEDS, SEEDS, SAME, SAME), (SEEDS, SEEDS))
    prepared: tuple[PyTree, Metrics] = run(agent, states, keys, data, held_out)
    return prepared
