"""Hindsight on host environments: batches are drawn, the environment says what new goals pay, and then they are learned from.

What a goal pays is NumPy of the environment's own. A compiled program could call it back; but such a program is compiled anew
in each process, cannot divide a batch among devices, and wants Python's lock while the environments step. Two programs with
NumPy between them have none of that. The step that is about to be stored is not among those that are drawn.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import NDArray

from maxent_rl.data.buffers.hindsight import HindsightLayout, Relabelled
from maxent_rl.data.buffers.rows import Replay
from maxent_rl.envs.adapters.goals import GoalRule
from maxent_rl.envs.device import PaysForGoals
from maxent_rl.seeds.mesh import SAME, SEEDS, over_seeds, sharded
from maxent_rl.seeds.streams import LEARN
from maxent_rl.training.loops.learner import update_key_of
from maxent_rl.training.loops.plan import Counters, Learner, Learning, Schedule
from maxent_rl.types import Array, Transition


@struct.dataclass
class Paid:
    """Relabelled batches of all updates of one vector step, with what their new goals pay; leading axes [seed, update].

    Attributes:
      batch: [seed, update, batch] as `HindsightLayout.relabel` gives it.
      reward: [seed, update, R] of the first R transitions of each batch.
      terminated: [seed, update, R].
    """

    batch: Transition
    reward: Array | NDArray[np.float32]
    terminated: Array | NDArray[np.float32]

    def transitions(self, learning: Learning) -> Transition:
        """[seed, update, batch] to learn from."""
        return _layout(learning).paid(self.batch, jnp.asarray(self.reward), jnp.asarray(self.terminated))


class Hindsight:
    """Draws the batches of a host loop."""

    def __init__(self, rule: GoalRule, learning: Learning, schedule: Schedule) -> None:
        """Plans.

        Args:
          rule: of the environment.
          learning: the static side, whose layout relabels.
          schedule: when to learn.
        """
        self._rule, self._learning, self._schedule = rule, learning, schedule
        self._most = math.ceil(int(schedule.numerator) / int(schedule.denominator))
        self._unused: Paid | None = None

    def draw(self, learner: Learner, step: int) -> Paid:
        """The batches of the updates that are due after vector step `step`, which is not stored yet; any where none is due."""
        idle = not int(self._schedule.updates_due(step))
        if idle and self._unused is not None:
            return self._unused
        drawn = draw_relabelled(learner.seeds.rows, learner.seeds.key, learner.counters, self._most, self._learning)
        if idle:
            # Something of the same shapes and placement, which nothing reads: a step without updates runs the same program.
            nothing = np.zeros(drawn.achieved.shape[:-1], np.float32)
            self._unused = Paid(drawn.batch, nothing, nothing)
            return self._unused
        achieved, desired, before = (np.asarray(goal) for goal in (drawn.achieved, drawn.desired, drawn.desired_before))
        shape, size = achieved.shape[:-1], achieved.shape[-1]
        terminated = np.asarray(drawn.batch.terminated)[..., : shape[-1]] > 0
        reached, wanted, wanted_before = (goal.reshape(-1, size) for goal in (achieved, desired, before))
        reward, ended = self._rule.outcomes(reached, wanted, wanted_before, terminated.reshape(-1))
        return Paid(drawn.batch, reward.reshape(shape), ended.reshape(shape).astype(np.float32))


@partial(jax.jit, static_argnames=("count", "learning"))
def draw_relabelled(rows: Array, keys: Array, counters: Counters, count: int, learning: Learning) -> Relabelled:
    """Draws the batches of the next updates of all seeds.

    Args:
      rows: [seed, capacity, width] of the buffers.
      keys: [seed] of the seeds.
      counters: before the updates.
      count: of updates.
      learning: the static side.

    Returns:
      Leading axes [seed, update].
    """

    def run(rows: Array, keys: Array, counters: Counters) -> Relabelled:
        def one(_: None, rows: Array, key: Array) -> Relabelled:
            learn_key, replay = jax.random.fold_in(key, LEARN), Replay(rows, counters.inserted)

            def draw(index: Array) -> Relabelled:
                return _layout(learning).relabel(replay, update_key_of(learn_key, counters.update + index, 0))

            found: Relabelled = jax.lax.map(draw, jnp.arange(count))
            return found

        drawn: Relabelled = over_seeds(one, None, rows, keys)
        return drawn

    drawn: Relabelled = sharded(learning.mesh, run, (SEEDS, SEEDS, SAME), SEEDS)(rows, keys, counters)
    return drawn


def sample_relabelled(env: PaysForGoals, learning: Learning, replay: Replay, key: Array) -> Transition:
    """A batch of one seed of a device environment, whose rule is a part of the program."""
    layout = _layout(learning)
    drawn = layout.relabel(replay, key)
    terminated = env.compute_terminated(drawn.achieved, drawn.desired)
    ended = drawn.batch.terminated[: layout.relabelled] > 0
    # One that ended for another reason than its goal still does.
    terminated |= ended & ~env.compute_terminated(drawn.achieved, drawn.desired_before)
    reward = env.compute_reward(drawn.achieved, drawn.desired)
    return layout.paid(drawn.batch, reward, terminated.astype(jnp.float32))


def _layout(learning: Learning) -> HindsightLayout:
    assert isinstance(learning.layout, HindsightLayout)
    return learning.layout
