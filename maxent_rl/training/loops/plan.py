"""What a training is made of: its static side, when it learns, and its state, which all loops hand on.

Everything here is of one seed or of all of them alike; in loops what belongs to a seed has the leading axis [seed].
"""

from __future__ import annotations

import dataclasses
import fractions
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flax import struct
from jax.sharding import Mesh

from maxent_rl.agents.base import rollout_time
from maxent_rl.data.buffers.rows import RowLayout
from maxent_rl.errors import InvalidSettingError
from maxent_rl.seeds.mesh import SAME, SEEDS
from maxent_rl.training.loops.size import Size
from maxent_rl.types import Array, Metrics, PyTree, Spec


@struct.dataclass
class Fault:
    """The first NaN or infinity that was met.

    Attributes:
      code: [] int32 0 for none, else 1 plus the index into `Learning.fault_names`.
      step: [] int32 the vector step in which it was met.
    """

    code: Array
    step: Array


_START_EPISODES, _MOST_START_STEPS = 10, 10_000


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
        if agent.learns == "rollout":
            return cls(
                np.int32(0), np.int32(1), np.int32(rollout_time(agent, dataclasses.replace(spec, num_envs=num_envs)))
            )
        start_steps = agent.start_steps
        if start_steps is None:
            start_steps = min(
                _START_EPISODES * spec.horizon, int(getattr(agent, "most_start_steps", _MOST_START_STEPS))
            )
        ratio = _simple(fractions.Fraction(float(agent.updates_per_step)) * num_envs, num_envs)
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


def _simple(ratio: fractions.Fraction, num_envs: int) -> fractions.Fraction:
    """Updates in each vector step, to within a ten-thousandth, as the simplest fraction that 32-bit counting can use.

    Raises:
      InvalidSettingError: there is none: less than an update in a million steps.
    """
    for limit in (1_000, 10_000, 100_000, 1_000_000):
        found = ratio.limit_denominator(limit)
        if abs(found - ratio) <= ratio / 10_000 and found.numerator * found.denominator < 2**31:
            return found
    raise InvalidSettingError(
        f"--updates-per-step {float(ratio / num_envs):g} with --num-envs {num_envs} makes {float(ratio):g} updates in each "
        "step of all environments, which cannot be scheduled: choose a rounder number, or one of at least one in a million."
    )


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
      agent: the agent's class. Programs are kept by it, as JAX takes two dataclasses with the same number of fields for one
        structure (`==`, with different hashes): of SubPO and MODPO in one process, one would now and then be run as the other.
      spec: the environment's shapes.
      layout: of the buffer that steps are stored in and learned from.
      num_envs: environments of each seed.
      metric_names: of the agent's update, sorted.
      mesh: of the local devices (`seeds.mesh.make_mesh`), or None where one device runs everything.
    """

    agent: type[Any]
    spec: Spec
    layout: RowLayout
    num_envs: int
    metric_names: tuple[str, ...]
    mesh: Mesh | None = None

    @property
    def fault_names(self) -> tuple[str, ...]:
        """What can be not finite, in the order of `Fault.code`."""
        return ("observation", "reward", "action", *self.metric_names)


@dataclasses.dataclass(frozen=True)
class Planned:
    """A loop that can be built: whatever can be refused of agent, environment, data and machine has been checked.

    Attributes:
      learning: the static side.
      build: makes the training state, which takes its memory and compiles programs.
      close: frees what has been opened for it, where it is not built.
      size: memory that it takes at least; None where that is not known.
    """

    learning: Learning
    build: Callable[[], Any]
    close: Callable[[], None] = lambda: None
    size: Size | None = None


LEARNER = Learner(seeds=SEEDS, counters=SAME)  # type: ignore[arg-type]  # how the training state is spread
