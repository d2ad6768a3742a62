"""Training on device environments: act, step, store, sample and update in one loop on the device, without a host round trip.

The number of steps is a traced number, not a static one: a chunk between two log lines, evaluations or checkpoints, however
long, runs the same program, and where chunks are cut changes no result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from maxent_rl.agents.base import Agent, relabels_goals
from maxent_rl.envs.device import DeviceEnv, DeviceStep, EnvState, reset_batch, step_batch
from maxent_rl.envs.door import pays_for_goals
from maxent_rl.playing.evaluation import Outcomes, evaluate_device
from maxent_rl.seeds.mesh import SAME, SEEDS, sharded, spread
from maxent_rl.seeds.streams import ENVIRONMENT
from maxent_rl.training.compilation import compiler_options
from maxent_rl.training.loops.episodes import Episodes
from maxent_rl.training.loops.faults import check_faults, note_fault
from maxent_rl.training.loops.hindsight import sample_relabelled
from maxent_rl.training.loops.learner import (
    act,
    init_learner,
    metric_means,
    numeric,
    store_and_learn,
    with_rows,
    without_rows,
)
from maxent_rl.training.loops.memory import forget_episodes
from maxent_rl.training.loops.plan import LEARNER, Learner, Learning, Schedule
from maxent_rl.training.loops.preparing import prepare_learner
from maxent_rl.types import Array, PyTree, Transition


@struct.dataclass
class DeviceState:
    """Everything that the loop on the device carries."""

    learner: Learner
    envs: EnvState
    episodes: Episodes


_DEVICE_STATE = DeviceState(learner=LEARNER, envs=SEEDS, episodes=SEEDS)  # type: ignore[arg-type]


class DeviceLoop:
    """Trains all seeds on device environments; see `make.Loop` for what the methods promise."""

    def __init__(
        self,
        agent: Agent[Any],
        learning: Learning,
        schedule: Schedule,
        seeds: tuple[int, ...],
        names: tuple[str, ...],
        env: DeviceEnv,
        staggered: bool = False,
    ) -> None:
        self.learning, self.seeds, self._names, self.step = learning, seeds, names, 0
        self._agent, self._schedule, self._env = numeric(agent, schedule), schedule, env
        learner = init_learner(self._agent, learning, seeds)
        self._state = _init_envs(learner, env, learning, staggered)

    @property
    def learner(self) -> Learner:
        """The training state of all seeds."""
        learner: Learner = self._state.learner
        return learner

    def prepare(self, data: PyTree, held_out: PyTree) -> list[dict[str, float]]:
        """Lets the agent prepare itself from fixed data, before `start`; one dict of what that gave per member."""
        learner, found = prepare_learner(self._agent, self.learner, data, held_out, self.learning)
        self._state = dataclasses.replace(self._state, learner=learner)
        return found

    def open(self) -> None:
        """Nothing to do: the environments began with the state."""

    def start(self) -> None:
        """Lets the agent, which may have prepared itself, begin its episodes; the environments began theirs with the state."""
        learner = forget_episodes(self._agent, self.learner, self.learning)
        self._state = dataclasses.replace(self._state, learner=learner)

    def advance(self, until: int, interrupted: Callable[[], bool]) -> None:
        """Trains until vector step `until`; looks for an interrupt between chunks."""
        if self.step < until and not interrupted():
            self._state = device_steps(
                self._agent, self._state, np.int32(until - self.step), self._schedule, self._env, self.learning
            )
            self.step = int(self._state.learner.counters.step)

    def check(self) -> None:
        """Raises `NonFiniteError` if an observation, a reward, an action or a metric was not finite."""
        check_faults(self.learner, self.learning, self._names)

    def take_remarks(self) -> list[str]:
        """None: what runs on the device is one program, which is checked when it is traced."""
        return []

    def take_metrics(self) -> list[dict[str, float]]:
        """Means since the last call, one dict per seed."""
        learner, metrics = metric_means(self._state.learner, self.learning)
        episodes, finished = self._state.episodes.take()
        self._state = dataclasses.replace(self._state, learner=learner, episodes=episodes)
        return [episode | metric for episode, metric in zip(finished, metrics, strict=True)]

    def evaluate(self, episodes: int) -> list[Outcomes]:
        """Plays episodes with the most likely actions in environments of their own, one entry per seed."""
        step = self.step * self.learning.num_envs
        seeds = self._state.learner.seeds
        return evaluate_device(self._agent, seeds.agent, seeds.key, step, episodes, self._env, self.learning.mesh)

    def get_state(self) -> dict[str, Any]:
        """The arrays that decide what follows, but for the rows of the replay buffer."""
        learner = without_rows(self._state.learner)
        return {"learner": learner, "envs": self._state.envs, "episodes": self._state.episodes}

    def get_env_state(self) -> dict[str, Any] | None:
        """Nothing: the environments' state is among the arrays."""
        return None

    def set_state(self, state: dict[str, Any], env_state: dict[str, Any] | None, rows: Array, step: int) -> bool:
        """Takes back what `get_state` gave."""
        self._state = DeviceState(
            learner=with_rows(state["learner"], rows), envs=state["envs"], episodes=state["episodes"]
        )
        self.step = step
        return True

    def close(self) -> None:
        """Nothing to free."""


@partial(jax.jit, static_argnames=("env", "learning", "staggered"), donate_argnames="learner")
def _init_envs(learner: Learner, env: DeviceEnv, learning: Learning, staggered: bool) -> DeviceState:
    def run(learner: Learner) -> DeviceState:
        keys = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, ENVIRONMENT), learning.num_envs))(
            learner.seeds.key
        )
        episodes = jax.tree.map(jnp.asarray, Episodes.start(keys.shape[0], learning.num_envs))
        return DeviceState(learner=learner, envs=reset_batch(env, keys, staggered), episodes=episodes)

    state: DeviceState = sharded(learning.mesh, run, (LEARNER,), _DEVICE_STATE)(learner)
    return state


@partial(jax.jit, static_argnames=("env", "learning"), donate_argnames="state", compiler_options=compiler_options())
def device_steps(
    agent: Agent[Any], state: DeviceState, steps: Array, schedule: Schedule, env: DeviceEnv, learning: Learning
) -> DeviceState:
    """Takes vector steps on the device.

    Args:
      agent: with numbers as arrays.
      state: of all seeds; donated.
      steps: [] int32 vector steps to take.
      schedule: when to learn.
      env: the environment.
      learning: the static side.
    """
    sample = None
    if relabels_goals(agent):
        sample = partial(sample_relabelled, pays_for_goals(env, type(env).__name__), learning)

    def one(agent: Agent[Any], schedule: Schedule, state: DeviceState) -> DeviceState:
        learner = state.learner
        observation = state.envs.observation
        action = act(agent, learning, learner.seeds, observation, learner.counters.step, schedule)
        envs, step = step_batch(env, state.envs, action)
        transition = Transition(
            observation=observation,
            action=action,
            reward=step.reward,
            next_observation=step.next_observation,
            terminated=step.terminated.astype(jnp.float32),
            truncated=step.truncated.astype(jnp.float32),
            steps=jnp.ones_like(step.reward),
        )
        fault = jax.vmap(lambda fault, code: note_fault(fault, learner.counters.step + 1, code))(
            learner.seeds.fault, _fault_code(step, action)
        )
        learner = dataclasses.replace(learner, seeds=dataclasses.replace(learner.seeds, fault=fault))
        updates = schedule.updates_due(learner.counters.step + 1)
        learner = store_and_learn(agent, learning, learner, learning.layout.pack(transition), updates, sample)
        episodes = state.episodes.add(step.reward, step.terminated | step.truncated)
        return DeviceState(learner=learner, envs=envs, episodes=episodes)

    def run(agent: Agent[Any], state: DeviceState, steps: Array, schedule: Schedule) -> DeviceState:
        after: DeviceState = jax.lax.fori_loop(0, steps, lambda _, carried: one(agent, schedule, carried), state)
        return after

    run = sharded(learning.mesh, run, (spread(agent), _DEVICE_STATE, SAME, SAME), _DEVICE_STATE)
    after: DeviceState = run(agent, state, steps, schedule)
    return after


def _fault_code(step: DeviceStep, action: Array) -> Array:
    """[seed] code of the first thing that is not finite, as in `Learning.fault_names`; 0 for none."""

    def bad(values: Array) -> Array:
        return ~jnp.all(jnp.isfinite(values), axis=tuple(range(1, values.ndim)))

    # An action that is not finite makes the observation so: it is named first.
    return jnp.where(
        bad(action), 3, jnp.where(bad(step.next_observation), 1, jnp.where(bad(step.reward), 2, 0))
    ).astype(jnp.int32)
