"""Training on fixed data: batches, updates, and nothing else, in one loop on the device.

A step is one update of each seed. The environment serves evaluation alone. All seeds draw from one copy of the data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import numpy as np

from maxent_rl.agents.base import Agent, BeginsFromData, ChecksSteps, ExaminesData, check_agent
from maxent_rl.agents.programs import program_of_agent
from maxent_rl.data.batches.fixed import FixedData, digest
from maxent_rl.data.buffers.rollout import RolloutLayout
from maxent_rl.envs.device import DeviceEnv
from maxent_rl.envs.host import HostEnvs
from maxent_rl.errors import CheckpointError, InvalidSettingError
from maxent_rl.playing.evaluation import Outcomes, evaluate_device, evaluate_host
from maxent_rl.runs.config import RunConfig
from maxent_rl.seeds.mesh import SAME, SEEDS, divide_batch, make_mesh, over_seeds, place, sharded, spread
from maxent_rl.training.compilation import compiler_options
from maxent_rl.training.loops.contract import check_begin, check_examine, check_update
from maxent_rl.training.loops.learner import metric_means, take_updates
from maxent_rl.training.loops.plan import LEARNER, Learner, Learning, Planned, SeedState
from maxent_rl.training.loops.without_envs import LearnerLoop
from maxent_rl.types import Array, Metrics, PyTree, Spec

LoadData: TypeAlias = Callable[[RunConfig, Any, Spec, Any], tuple[FixedData, PyTree | None]]
"""How a run's data is read: (run, agent, spec, env) to what is learned from, and what is kept apart or None."""

_MOST_UPDATES = 1_000  # between two looks for an interrupt


class OfflineLoop(LearnerLoop):
    """Trains all seeds of an offline agent; see `make.Loop` for what the methods promise.

    Attributes:
      held_out: the data kept apart from what is learned, or None.
    """

    def __init__(
        self,
        agent: Agent[Any],
        learning: Learning,
        members: Sequence[dict[str, float]],
        data: tuple[FixedData, PyTree | None],
        env: DeviceEnv | Callable[[list[int]], HostEnvs],
    ) -> None:
        super().__init__(agent, learning, members)
        self._env, self._digest = env, digest(data)
        self._data, self.held_out = place(learning.mesh, data, SAME)
        if isinstance(agent, BeginsFromData):
            self._learner = _begin(self._agent, self._learner, self._data, learning)

    def advance(self, until: int, interrupted: Callable[[], bool]) -> None:
        """Takes updates until there have been `until`; looks for an interrupt between chunks."""
        while self.step < until and not interrupted():
            updates = np.int32(min(until - self.step, _MOST_UPDATES))
            self._learner = offline_updates(self._agent, self._learner, self._data, updates, self.learning)
            self.step = int(self._learner.counters.step)

    def take_metrics(self) -> list[dict[str, float]]:
        """Means since the last call, one dict per seed."""
        self._learner, rows = metric_means(self._learner, self.learning)
        return rows

    def evaluate(self, episodes: int) -> list[Outcomes]:
        """Plays episodes with the most likely actions; the further columns are measured on data kept apart."""
        seeds = self._learner.seeds
        if callable(self._env):
            played = evaluate_host(self._agent, seeds.agent, self.seeds, self.step, episodes, self._env)
        else:
            played = evaluate_device(
                self._agent, seeds.agent, seeds.key, self.step, episodes, self._env, self.learning.mesh
            )
        return [
            dataclasses.replace(one, extra=one.extra | extra) for one, extra in zip(played, self.examine(), strict=True)
        ]

    def examine(self) -> list[dict[str, float]]:
        """What each seed gives on the data kept apart; nothing where there is none, or the agent measures nothing."""
        if self.held_out is None or not isinstance(self._agent, ExaminesData):
            return [{} for _ in self.seeds]
        found = _examine(self._agent, self._learner.seeds.agent, self.held_out)
        host = {name: np.asarray(value) for name, value in found.items()}
        return [{name: float(value[index]) for name, value in host.items()} for index in range(len(self.seeds))]

    def get_state(self) -> dict[str, Any]:
        """The arrays that decide what follows, and a number that stands for the data."""
        return super().get_state() | {"data": self._digest}

    def set_state(self, state: dict[str, Any], env_state: dict[str, Any] | None, rows: Array, step: int) -> bool:
        """Takes back what `get_state` gave.

        Raises:
          CheckpointError: it was trained on other data.
        """
        if int(state["data"]) != int(self._digest):
            raise CheckpointError(
                "The data is not what this run was trained on, so it cannot go on as if never stopped."
            )
        return super().set_state(state, env_state, rows, step)


def plan_offline_loop(
    run: RunConfig,
    members: Sequence[dict[str, float]],
    variants: Sequence[Any],
    env: DeviceEnv | Callable[[list[int]], HostEnvs],
    spec: Spec,
    devices: list[jax.Device],
    load: LoadData | None,
) -> Planned:
    """Reads the data, and checks that agent, data, environment and machine fit.

    Args:
      run: settings of the run.
      members: seeds and what varies, of this process.
      variants: one agent for each variant.
      env: to evaluate in: a device environment, or what makes host environments from their seeds.
      spec: of the environment.
      devices: the local devices to share the seeds among.
      load: as of `make_loop`.

    Raises:
      MaxentRLError: one of its kinds, for settings that cannot work and data that does not fit.
    """
    if run.num_envs > 1:
        raise InvalidSettingError(
            f"--agent {run.agent} learns from fixed data and steps no environments: leave --num-envs out."
        )
    for variant in variants:
        check_agent(variant, spec, run.env)
        if isinstance(variant, ChecksSteps):
            variant.check_steps(run.total_steps)
    agent = variants[0]
    assert load is not None, "an agent that learns from fixed data needs load=sources.load.load_data"
    data, held_out = load(run, agent, spec, env)
    learning = Learning(
        agent=type(agent),
        spec=spec,
        layout=RolloutLayout.create(spec, 0, 1),  # the data is kept once for all seeds, not in buffers of theirs
        num_envs=1,
        metric_names=_check_functions(agent, spec, data, held_out),
        mesh=make_mesh(len(members), devices, run.batch_devices, agent.batch_size),
    )
    return Planned(learning, partial(OfflineLoop, agent, learning, members, (data, held_out), env))


def _check_functions(agent: Any, spec: Spec, data: FixedData, held_out: PyTree | None) -> tuple[str, ...]:
    """The names of the update's metrics, after all functions were traced."""
    names = check_update(agent, spec, lambda agent, key: data.sample(key, agent.batch_size))
    state = jax.eval_shape(lambda key: agent.init(key, spec), jax.random.key(0))
    if isinstance(agent, BeginsFromData):
        check_begin(agent, state, data)
    if held_out is not None and isinstance(agent, ExaminesData):
        check_examine(agent, state, held_out)
    return names


@partial(jax.jit, static_argnames="learning", donate_argnames="learner", compiler_options=compiler_options())
def offline_updates(
    agent: Agent[Any], learner: Learner, data: FixedData, updates: Array, learning: Learning
) -> Learner:
    """Takes updates of all seeds.

    Args:
      agent: with numbers as arrays.
      learner: of all seeds; donated.
      data: to draw batches from.
      updates: [] int32 updates to take.
      learning: the static side.
    """

    def run(agent: Agent[Any], learner: Learner, data: FixedData, updates: Array) -> Learner:
        before = learner.counters
        counters = dataclasses.replace(
            before,
            step=before.step + updates,
            update=before.update + updates,
            metric_count=before.metric_count + updates,
        )

        def one(agent: Any, seed: SeedState) -> SeedState:
            def draw(index: Array, key: Array) -> PyTree:
                return divide_batch(learning.mesh, data.sample(key, agent.batch_size))

            def step_of(index: Array) -> Array:
                return before.step + index + 1

            return take_updates(agent, learning, seed, draw, before.update, updates, step_of)

        return Learner(over_seeds(one, agent, learner.seeds), counters)

    run = sharded(learning.mesh, run, (spread(agent), LEARNER, SAME, SAME), LEARNER)
    after: Learner = run(agent, learner, data, updates)
    return after


@partial(jax.jit, static_argnames="learning")
def _begin(agent: Agent[Any], learner: Learner, data: FixedData, learning: Learning) -> Learner:
    """Has each seed take from the data what it begins with."""

    def run(agent: Agent[Any], seeds: SeedState, data: FixedData) -> SeedState:
        states = over_seeds(lambda agent, state: agent.begin(state, data), agent, seeds.agent)
        return dataclasses.replace(seeds, agent=states)

    begun: SeedState = sharded(learning.mesh, run, (spread(agent), SEEDS, SAME), SEEDS)(agent, learner.seeds, data)
    return dataclasses.replace(learner, seeds=begun)


@program_of_agent()
def _examine(agent: Agent[Any], states: PyTree, held_out: PyTree) -> Metrics:
    found: Metrics = over_seeds(lambda agent, state: agent.examine(state, held_out), agent, states)
    return found
