"""What host and device loops have in common: store transitions, learn from them, choose the next actions.

Everything here is written for one seed and vmapped over the leading axis [seed] (where a run has variants of
hyper-parameters, over all seeds of all variants); counters are the same for all seeds and stay unbatched, so that a write
into the replay buffer is one slice and `cond` stays a branch. All random keys derive from a seed's root key and from
counters, so that seed s alone and seed s among others draw the same numbers, and a resumed run draws what an undisturbed one
would have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from maxent_rl.agents.base import SCHEDULED, Agent, recalling, watched
from maxent_rl.data.buffers.rows import Replay
from maxent_rl.playing.choosing import uniform_actions
from maxent_rl.runs.buffers import make_layout
from maxent_rl.seeds.mesh import SAME, SEEDS, divide_batch, over_seeds, place, sharded, spread
from maxent_rl.seeds.streams import ACT, INIT, LEARN, WATCH, seed_keys
from maxent_rl.training.loops.contract import check_update
from maxent_rl.training.loops.faults import note_metrics
from maxent_rl.training.loops.memory import advance_memory, chosen, start_memory, update_recalling
from maxent_rl.training.loops.plan import Counters, Fault, Learner, Learning, Schedule, SeedState
from maxent_rl.types import Array, Metrics, PyTree, Spec, Transition


def make_learning(agent: Agent[Any], spec: Spec, num_envs: int, mesh: Mesh | None = None) -> Learning:
    """Plans the buffer and asks the agent, without computing anything, which metrics it gives.

    Raises:
      InvalidSettingError: the agent's functions do not give what loops work with.
    """
    spec = dataclasses.replace(spec, num_envs=num_envs)
    layout = make_layout(agent, spec)

    def batch(agent: Any, key: Array) -> PyTree:
        return layout.unpack(jnp.zeros((*layout.batch_shape, layout.width)))

    return Learning(type(agent), spec, layout, num_envs, check_update(agent, spec, batch), mesh)


def without_rows(learner: Learner) -> Learner:
    """The learner less its replay rows, which checkpoints keep apart."""
    return dataclasses.replace(learner, seeds=dataclasses.replace(learner.seeds, rows=None))  # type: ignore[arg-type]


def with_rows(learner: Learner, rows: Array) -> Learner:
    """The learner with replay rows [seed, capacity, width] put back."""
    return dataclasses.replace(learner, seeds=dataclasses.replace(learner.seeds, rows=rows))


def numeric(agent: Any, schedule: Schedule | None = None) -> Any:
    """The agent as jitted functions take it: numbers as arrays, so that no Python float is sent each step.

    What only the schedule reads is set to a constant: otherwise a `start_steps` of None and one of 1000 would be two
    programs. Numbers that vary between seeds keep their leading axis [seed]. Without a schedule all is kept.
    """
    if schedule is not None:
        constants = {"start_steps": int(schedule.start), "most_start_steps": 1, "updates_per_step": 1.0}
        present = {field.name for field in dataclasses.fields(agent)}
        agent = dataclasses.replace(agent, **{name: constants[name] for name in SCHEDULED if name in present})
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), agent)


def init_learner(agent: Agent[Any], learning: Learning, seeds: tuple[int, ...]) -> Learner:
    """Builds the training state of all seeds, on the devices of the mesh."""
    keys = place(learning.mesh, seed_keys(seeds), SEEDS)
    counters = place(learning.mesh, Counters(*np.zeros(4, np.int32)), SAME)
    return Learner(_init_seeds(agent, keys, learning), counters)


@partial(jax.jit, static_argnames="learning")
def _init_seeds(agent: Agent[Any], keys: Array, learning: Learning) -> SeedState:
    def one(agent: Agent[Any], key: Array) -> SeedState:
        zero, state = jnp.zeros((), jnp.int32), agent.init(jax.random.fold_in(key, INIT), learning.spec)
        memory = start_memory(agent, state, learning.num_envs)
        return SeedState(
            agent=state,
            rows=learning.layout.empty().rows,
            key=key,
            metric_sums={name: jnp.zeros(()) for name in learning.metric_names},
            fault=Fault(code=zero, step=zero),
            memory=memory,
            window_memory=memory,
        )

    def run(agent: Agent[Any], keys: Array) -> SeedState:
        found: SeedState = over_seeds(one, agent, keys)
        return found

    seeds: SeedState = sharded(learning.mesh, run, (spread(agent), SEEDS), SEEDS)(agent, keys)
    return seeds


def act(
    agent: Agent[Any], learning: Learning, seeds: SeedState, observation: Array, step: Array, schedule: Schedule
) -> Array:
    """Chooses actions: uniform ones during the start, then the policy's.

    Args:
      agent: the agent.
      learning: the static side.
      seeds: with leading axis [seed].
      observation: [seed, env, observation].
      step: [] vector steps taken.
      schedule: says how long the start is.

    Returns:
      [seed, env, action].
    """

    def uniform(seed: SeedState, observed: Array, key: Array) -> Array:
        return uniform_actions(learning.spec, len(observed), key)

    def policy(agent: Agent[Any], seed: SeedState, observed: Array, key: Array) -> Array:
        action: Array = agent.act(recalling(agent, seed.agent, seed.memory), observed, key)
        return action.astype(jnp.float32)

    def one(agent: Agent[Any], seed: SeedState, observed: Array) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(seed.key, ACT), step)
        action: Array = jax.lax.cond(step < schedule.start, uniform, partial(policy, agent), seed, observed, key)
        return action

    action: Array = over_seeds(one, agent, seeds, observation)
    return action


def store_and_learn(
    agent: Agent[Any],
    learning: Learning,
    learner: Learner,
    rows: Array,
    updates: Array,
    sample: Callable[[Replay, Array], Transition] | None = None,
    drawn: Transition | None = None,
) -> Learner:
    """Stores one vector step and takes the updates that are due.

    Args:
      agent: the agent.
      learning: the static side.
      learner: state of all seeds.
      rows: [seed, env, width] packed transitions.
      updates: [] int32 updates to take.
      sample: draws a batch of one seed by a random key; None for the way of the layout.
      drawn: [seed, update, ...] batches that were drawn already, for as many updates at least; None to draw them here.
    """
    before = learner.counters
    counters = Counters(
        step=before.step + 1,
        update=before.update + updates,
        inserted=before.inserted + learning.num_envs,
        metric_count=before.metric_count + updates,
    )

    def one(agent: Any, seed: SeedState, new_rows: Array, drawn: Transition | None) -> SeedState:
        replay = learning.layout.add(Replay(seed.rows, before.inserted), new_rows)
        memory = advance_memory(agent, seed.agent, seed.memory, learning.layout, new_rows)
        key = jax.random.fold_in(jax.random.fold_in(seed.key, WATCH), before.step)
        state = watched(agent, seed.agent, learning.layout.unpack(new_rows), key)
        seed = dataclasses.replace(seed, agent=state, rows=replay.rows, memory=memory)

        def draw(index: Array, key: Array) -> PyTree:
            if drawn is not None:
                batch = jax.tree.map(lambda leaf: leaf[index], drawn)
            elif sample is not None:
                batch = sample(replay, key)
            else:
                batch = learning.layout.sample(replay, key, agent.discount)
            return divide_batch(learning.mesh, batch, learning.layout.batch_axis)

        seed = take_updates(agent, learning, seed, draw, before.update, updates, lambda index: counters.step)
        # An update ends a window, and the next one begins with what is remembered now.
        return dataclasses.replace(seed, window_memory=chosen(updates > 0, memory, seed.window_memory))

    return Learner(over_seeds(one, agent, learner.seeds, rows, drawn), counters)


def take_updates(
    agent: Agent[Any],
    learning: Learning,
    seed: SeedState,
    draw: Callable[[Array, Array], PyTree],
    first: Array,
    updates: Array,
    step_of: Callable[[Array], Array],
) -> SeedState:
    """Takes updates of one seed, each from a batch of its own.

    Args:
      agent: the agent.
      learning: the static side.
      seed: the state of one seed.
      draw: a batch, from the update's index from 0 and a random key.
      first: [] int32 updates taken before.
      updates: [] int32 updates to take.
      step_of: the vector step to name where the update of an index from 0 gives NaN.
    """
    learn_key = jax.random.fold_in(seed.key, LEARN)

    def update(index: Array, carry: tuple[PyTree, Metrics, Fault]) -> tuple[PyTree, Metrics, Fault]:
        state, sums, fault = carry
        sample_key, update_key = (update_key_of(learn_key, first + index, which) for which in range(2))
        batch = draw(index, sample_key)
        state, metrics = update_recalling(agent, learning.mesh, state, seed.window_memory, batch, update_key)
        fault = note_metrics(learning, fault, step_of(index), metrics)
        return state, {name: sums[name] + metrics[name] for name in sums}, fault

    carry = (seed.agent, seed.metric_sums, seed.fault)
    state, sums, fault = jax.lax.fori_loop(0, updates, update, carry)
    return dataclasses.replace(seed, agent=state, metric_sums=sums, fault=fault)


def update_key_of(learn_key: Array, update: Array, which: int) -> Array:
    """The random key of an update: 0 for the one by which its batch is drawn, 1 for the one that it learns with.

    Args:
      learn_key: [] the seed's key, folded with the stream LEARN.
      update: [] int32 number of the update.
      which: of the two.
    """
    # Two numbers folded in, not one and then a split: nothing can begin before the batch is drawn, and each link of the
    # chain of keys costs a quarter of the time of a large matrix product on a CPU.
    return jax.random.fold_in(learn_key, 2 * update + which)


def metric_means(learner: Learner, learning: Learning) -> tuple[Learner, list[dict[str, float]]]:
    """Reads the mean of each metric since the last call, for each seed, and starts anew.

    Returns:
      (learner, one dict per seed); the dicts are empty where no update was taken.
    """
    count = int(learner.counters.metric_count)
    sums = {name: np.asarray(value) for name, value in learner.seeds.metric_sums.items()}
    rows = [
        {name: float(np.float32(value[index]) / np.float32(count)) for name, value in sums.items()} if count else {}
        for index in range(len(learner.seeds.key))
    ]
    empty, zero = _zeros(learner.seeds.metric_sums, learner.counters.metric_count, learning)
    seeds = dataclasses.replace(learner.seeds, metric_sums=empty)
    return Learner(seeds, dataclasses.replace(learner.counters, metric_count=zero)), rows


@partial(jax.jit, static_argnames="learning")
def _zeros(sums: Metrics, count: Array, learning: Learning) -> tuple[Metrics, Array]:
    """Zeros placed just as what the jitted steps return: placed otherwise, they would have the next step compiled anew."""

    def run(sums: Metrics, count: Array) -> tuple[Metrics, Array]:
        return jax.tree.map(jnp.zeros_like, sums), jnp.zeros_like(count)

    zeros: tuple[Metrics, Array] = sharded(learning.mesh, run, (SEEDS, SAME), (SEEDS, SAME))(sums, count)
    return zeros
