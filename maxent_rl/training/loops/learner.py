"""What host and device loops have in common: store transitions, learn from them, choose the next actions.

Everything here is written for one seed and vmapped over the leading axis [seed] (where a run has variants of
hyper-parameters, over all seeds of all variants); counters are the same for all seeds and stay unbatched, so that a write
into the replay buffer is one slice and `cond` stays a branch. All random keys derive from a seed's root key and from
counters, so that seed s alone and seed s among others draw the same numbers, and a resumed run draws what an undisturbed one
would have.
"""

from __future__ import annotations

import dataclasses
import fractions
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh

from maxent_rl.agents.base import learns_on_policy, recalling, rollout_time
from maxent_rl.data import Replay, ReplayLayout, RolloutLayout, RowLayout
from maxent_rl.seeds.mesh import SAME, SEEDS, divide_batch, over_seeds, place, sharded, spread
from maxent_rl.training.loops.faults import Fault, note_metrics
from maxent_rl.training.loops.memory import advance_memory, chosen, start_memory, update_recalling
from maxent_rl.types import Array, Metrics, PyTree, Spec

# Streams of random numbers that a seed's root key is folded with; their order is part of what a checkpoint means.
INIT, ACT, LEARN, ENVIRONMENT, EVALUATION, PREPARE = range(6)

_START_EPISODES, _MOST_START_STEPS = 10, 10_000
SCHEDULED = ("start_steps", "updates_per_step")  # hyper-parameters that the schedule reads, and nothing else


@struct.dataclass
class Schedule:
    """When to learn, in vector steps (one step of all environments of a seed). Changing its numbers compiles nothing.

    Attributes:
      start: [] int32 vector steps with uniform actions before the first update.
      numerator: [] int32 updates in every `denominator` vector steps.
      denominator: [] int32.
    """

    start: Any
    numerator: Any
    denominator: Any

    @classmethod
    def create(cls, agent: Any, spec: Spec, num_envs: int) -> Schedule:
        """Reads the agent's settings, which count environment steps.

        An on-policy agent is updated once for each window and never acts uniformly; of an off-policy agent this reads
        `start_steps` and `updates_per_step`.
        """
        if learns_on_policy(agent):
            return cls(
                np.int32(0), np.int32(1), np.int32(rollout_time(agent, dataclasses.replace(spec, num_envs=num_envs)))
            )
        start_steps = agent.start_steps
        if start_steps is None:
            start_steps = min(_START_EPISODES * spec.horizon, _MOST_START_STEPS)
        ratio = fractions.Fraction(float(agent.updates_per_step)).limit_denominator(1000) * num_envs
        start = max(math.ceil(int(start_steps) / num_envs), 1)
        return cls(np.int32(start), np.int32(ratio.numerator), np.int32(ratio.denominator))

    def updates_due(self, step: Any) -> Any:
        """Updates to take after vector step number `step` (the first is 1), as integer arithmetic.

        The updates of a fractional ratio are spread evenly: as many as the ratio's running sum passes whole numbers.
        """
        phase = (step - self.start - 1) % self.denominator
        due = (phase + 1) * self.numerator // self.denominator - phase * self.numerator // self.denominator
        return due * (step > self.start)

    @property
    def first_update(self) -> int:
        """The first vector step after which an update is due."""
        return int(self.start) + math.ceil(int(self.denominator) / int(self.numerator))


@struct.dataclass
class Counters:
    """The same for all seeds.

    Attributes:
      step: [] int32 vector steps taken.
      update: [] int32 updates taken.
      inserted: [] int32 rows written into each buffer.
      metric_count: [] int32 updates whose metrics `SeedState.metric_sums` holds.
    """

    step: Array
    update: Array
    inserted: Array
    metric_count: Array


@struct.dataclass
class SeedState:
    """What belongs to one seed. In loops every leaf has the leading axis [seed].

    Attributes:
      agent: the agent's state.
      rows: [capacity, width] of the buffer.
      key: [] the root of all the seed's random numbers; never changes.
      metric_sums: sums of the agent's metrics since they were last taken.
      fault: the first value that was not finite.
      memory: what the agent remembers of the episodes so far, a pytree of [env, ...]; () where it does not, or plays none.
      window_memory: the same at the beginning of the window of steps that the next update learns from.
    """

    agent: PyTree
    rows: Array
    key: Array
    metric_sums: Metrics
    fault: Fault
    memory: PyTree = ()
    window_memory: PyTree = ()


@struct.dataclass
class Learner:
    """The training state of all seeds, apart from their environments."""

    seeds: SeedState
    counters: Counters


@dataclasses.dataclass(frozen=True)
class Learning:
    """The static side of a training run: shapes and names, hashable, the same for all seeds.

    Attributes:
      spec: the environment's shapes.
      layout: of the buffer that steps are stored in and learned from.
      num_envs: environments of each seed.
      metric_names: of the agent's update, sorted.
      mesh: of the local devices (`sharding.make_mesh`), or None where one device runs everything.
    """

    spec: Spec
    layout: RowLayout
    num_envs: int
    metric_names: tuple[str, ...]
    mesh: Mesh | None = None

    @property
    def fault_names(self) -> tuple[str, ...]:
        """What can be not finite, in the order of `Fault.code`."""
        return ("observation", "reward", "action", *self.metric_names)


def make_learning(agent: Any, spec: Spec, num_envs: int, mesh: Mesh | None = None) -> Learning:
    """Plans the buffer and asks the agent, without computing anything, which metrics it gives."""
    spec = dataclasses.replace(spec, num_envs=num_envs)
    layout = make_layout(agent, spec)

    def metrics(key: Array) -> Metrics:
        batch, state = layout.unpack(jnp.zeros((*layout.batch_shape, layout.width))), agent.init(key, spec)
        return update_recalling(agent, None, state, start_memory(agent, state, num_envs), batch, key)[1]

    names = tuple(sorted(jax.eval_shape(metrics, jax.random.key(0))))
    return Learning(spec, layout, num_envs, names, mesh)


def make_layout(agent: Any, spec: Spec) -> RowLayout:
    """Lays out the buffer that an agent's kind needs for the environments of one seed."""
    if learns_on_policy(agent):
        return RolloutLayout.create(spec, rollout_time(agent, spec), spec.num_envs)
    return ReplayLayout.create(spec, agent.replay_size, spec.num_envs, agent.batch_size, agent.n_step)


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
        constants = {"start_steps": int(schedule.start), "updates_per_step": 1.0}
        present = {field.name for field in dataclasses.fields(agent)}
        agent = dataclasses.replace(agent, **{name: constants[name] for name in SCHEDULED if name in present})
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), agent)


def seed_keys(seeds: tuple[int, ...]) -> Array:
    """The root keys of the seeds: [seed]."""
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def init_learner(agent: Any, learning: Learning, seeds: tuple[int, ...]) -> Learner:
    """Builds the training state of all seeds, on the devices of the mesh."""
    keys = place(learning.mesh, seed_keys(seeds), SEEDS)
    counters = place(learning.mesh, Counters(*np.zeros(4, np.int32)), SAME)
    return Learner(_init_seeds(agent, keys, learning), counters)


@partial(jax.jit, static_argnames="learning")
def _init_seeds(agent: Any, keys: Array, learning: Learning) -> SeedState:
    def one(agent: Any, key: Array) -> SeedState:
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

    def run(agent: Any, keys: Array) -> SeedState:
        found: SeedState = over_seeds(one, agent, keys)
        return found

    seeds: SeedState = sharded(learning.mesh, run, (spread(agent), SEEDS), SEEDS)(agent, keys)
    return seeds


LEARNER = Learner(seeds=SEEDS, counters=SAME)  # type: ignore[arg-type]  # how the training state is spread


def act(agent: Any, learning: Learning, seeds: SeedState, observation: Array, step: Array, schedule: Schedule) -> Array:
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

    def policy(agent: Any, seed: SeedState, observed: Array, key: Array) -> Array:
        action: Array = agent.act(recalling(agent, seed.agent, seed.memory), observed, key)
        return action.astype(jnp.float32)

    def one(agent: Any, seed: SeedState, observed: Array) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(seed.key, ACT), step)
        action: Array = jax.lax.cond(step < schedule.start, uniform, partial(policy, agent), seed, observed, key)
        return action

    action: Array = over_seeds(one, agent, seeds, observation)
    return action


def uniform_actions(spec: Spec, count: int, key: Array) -> Array:
    """[count, action] drawn uniformly from all that an agent can do; discrete ones are floats [count]."""
    shape = (count, *spec.action_shape)
    if spec.num_actions is not None:
        return jax.random.randint(key, shape, 0, spec.num_actions).astype(jnp.float32)
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def store_and_learn(agent: Any, learning: Learning, learner: Learner, rows: Array, updates: Array) -> Learner:
    """Stores one vector step and takes the updates that are due.

    Args:
      agent: the agent.
      learning: the static side.
      learner: state of all seeds.
      rows: [seed, env, width] packed transitions.
      updates: [] int32 updates to take.
    """
    before = learner.counters
    counters = Counters(
        step=before.step + 1,
        update=before.update + updates,
        inserted=before.inserted + learning.num_envs,
        metric_count=before.metric_count + updates,
    )

    def one(agent: Any, seed: SeedState, new_rows: Array) -> SeedState:
        replay = learning.layout.add(Replay(seed.rows, before.inserted), new_rows)
        memory = advance_memory(agent, seed.agent, seed.memory, learning.layout, new_rows)
        seed = dataclasses.replace(seed, rows=replay.rows, memory=memory)

        def draw(key: Array) -> PyTree:
            batch = learning.layout.sample(replay, key, agent.discount)
            return divide_batch(learning.mesh, batch, learning.layout.batch_axis)

        seed = take_updates(agent, learning, seed, draw, before.update, updates, lambda index: counters.step)
        # An update ends a window, and the next one begins with what is remembered now.
        return dataclasses.replace(seed, window_memory=chosen(updates > 0, memory, seed.window_memory))

    return Learner(over_seeds(one, agent, learner.seeds, rows), counters)


def take_updates(
    agent: Any,
    learning: Learning,
    seed: SeedState,
    draw: Callable[[Array], PyTree],
    first: Array,
    updates: Array,
    step_of: Callable[[Array], Array],
) -> SeedState:
    """Takes updates of one seed, each from a batch of its own.

    Args:
      agent: the agent.
      learning: the static side.
      seed: the state of one seed.
      draw: a batch from a random key.
      first: [] int32 updates taken before.
      updates: [] int32 updates to take.
      step_of: the vector step to name where the update of an index from 0 gives NaN.
    """
    learn_key = jax.random.fold_in(seed.key, LEARN)

    def update(index: Array, carry: tuple[PyTree, Metrics, Fault]) -> tuple[PyTree, Metrics, Fault]:
        state, sums, fault = carry
        # Two numbers folded in, not one and then a split: nothing can begin before the batch is drawn, and each link
        # of the chain of keys costs a quarter of the time of a large matrix product on a CPU.
        number = 2 * (first + index)
        sample_key, update_key = (jax.random.fold_in(learn_key, number + which) for which in range(2))
        batch = draw(sample_key)
        state, metrics = update_recalling(agent, learning.mesh, state, seed.window_memory, batch, update_key)
        fault = note_metrics(learning, fault, step_of(index), metrics)
        return state, {name: sums[name] + metrics[name] for name in sums}, fault

    carry = (seed.agent, seed.metric_sums, seed.fault)
    state, sums, fault = jax.lax.fori_loop(0, updates, update, carry)
    return dataclasses.replace(seed, agent=state, metric_sums=sums, fault=fault)


def metric_means(learner: Learner, learning: Learning) -> tuple[Learner, list[dict[str, float]]]:
    """Reads the mean of each metric since the last call, for each seed, and starts anew.

    Returns:
      (learner, one dict per seed); the dicts are empty where no update was taken.
    """
    count = int(learner.counters.metric_count)
    sums = {name: np.asarray(value) for name, value in learner.seeds.metric_sums.items()}
    num_seeds = len(next(iter(sums.values())))
    rows = [
        {name: float(np.float32(value[index]) / np.float32(count)) for name, value in sums.items()} if count else {}
        for index in range(num_seeds)
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
