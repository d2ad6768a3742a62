"""Training on host environments: NumPy environments stepped by Python, everything else jitted.

Each iteration steps all environments of all seeds, then dispatches two programs and waits for the first alone: one chooses
the next actions, the other stores the transitions and takes the gradient steps that are due. So the environments step, and
Python prepares the next iteration, while the device learns; the price is that the policy which acts is older by the updates
of one iteration. Where it may not be older (`RowLayout.acts_after_learning`), the order of the two programs is the other.
Buffers are donated, so nothing is copied.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from maxent_rl.agents.base import Agent
from maxent_rl.envs.host import Floats, HostEnvs
from maxent_rl.errors import EnvironmentFailedError, IncompatibleEnvironmentError, MaxentRLError, NonFiniteError
from maxent_rl.playing.evaluation import Outcomes, evaluate_host
from maxent_rl.seeds.mesh import SAME, SEEDS, sharded, spread
from maxent_rl.training.compilation import compiler_options
from maxent_rl.training.loops.episodes import Episodes, Successes
from maxent_rl.training.loops.faults import check_faults
from maxent_rl.training.loops.hindsight import Hindsight, Paid
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
from maxent_rl.training.loops.plan import LEARNER, Learner, Learning, Schedule, SeedState
from maxent_rl.training.loops.preparing import prepare_learner
from maxent_rl.types import Array, PyTree

_SUCCESSES = "successes"  # where the environments' state has those of their episodes


class HostLoop:
    """Trains all seeds on host environments; see `make.Loop` for what the methods promise."""

    def __init__(
        self,
        agent: Agent[Any],
        learning: Learning,
        schedule: Schedule,
        seeds: tuple[int, ...],
        names: tuple[str, ...],
        envs: HostEnvs,
        make_evaluation_envs: Callable[[list[int]], HostEnvs],
        hindsight: Hindsight | None = None,
    ) -> None:
        self.learning, self.seeds, self._names, self.step = learning, seeds, names, 0
        self._agent, self._schedule = numeric(agent, schedule), schedule
        self._envs, self._make_evaluation_envs, self._hindsight = envs, make_evaluation_envs, hindsight
        envs.try_state()  # with these, as further ones may not be there to be had
        self.learner = init_learner(self._agent, learning, seeds)
        self._is_open = False
        self._episodes, self._successes = Episodes.start(len(seeds), learning.num_envs), Successes(len(seeds))
        self._observation: Floats = np.zeros((envs.num_envs, learning.spec.observation_size), np.float32)
        self._action: NDArray[np.float32] = np.zeros(
            (len(seeds), learning.num_envs, *learning.spec.action_shape), np.float32
        )

    def prepare(self, data: PyTree, held_out: PyTree) -> list[dict[str, float]]:
        """Lets the agent prepare itself from fixed data, before `start`; one dict of what that gave per member."""
        self.learner, found = prepare_learner(self._agent, self.learner, data, held_out, self.learning)
        return found

    def open(self) -> None:
        """Resets the environments, so that what is wrong with them shows before anything is written."""
        self._observation, self._is_open = self._envs.reset(), True

    def start(self) -> None:
        """Chooses the first actions, of environments just reset; not called when a checkpoint is restored."""
        if not self._is_open:
            self.open()
        self._is_open = False
        self.learner = forget_episodes(self._agent, self.learner, self.learning)
        self._action = np.asarray(self._choose())

    def advance(self, until: int, interrupted: Callable[[], bool]) -> None:
        """Trains until vector step `until`, or until `interrupted()`."""
        while self.step < until and not interrupted():
            self._one_step()

    def _one_step(self) -> None:
        flat = self._action.reshape(self._envs.num_envs, *self.learning.spec.action_shape)
        with self._told_in_step(self.step + 1):
            step = self._envs.step(flat)
        rows = self.learning.layout.pack_host(
            self._observation, flat, step.reward, step.next_observation, step.terminated, step.truncated
        )
        self._observation = step.observation
        self.step += 1
        # Before the learning is dispatched, which takes the policy's buffers; after it where acting must wait for it.
        action = None if self.learning.layout.acts_after_learning else self._choose()
        paid = None
        if self._hindsight is not None:
            with self._told_in_step(self.step):
                paid = self._hindsight.draw(self.learner, self.step)
        self.learner = host_step(self._agent, self.learner, self._by_seed(rows), self._schedule, self.learning, paid)
        action = self._choose() if action is None else action
        # While the device computes:
        done = step.terminated | step.truncated
        self._episodes = self._episodes.add(self._by_seed(step.reward), self._by_seed(done))
        if step.success is not None:
            self._successes.add(self._by_seed(step.success), self._by_seed(done))
        self._action = np.asarray(action)
        if not np.isfinite(self._action).all():
            self.check()
            name = self._names[int(np.argmin(np.isfinite(self._action).reshape(len(self.seeds), -1).all(axis=1)))]
            at = self.step * self.learning.num_envs
            raise NonFiniteError(f"{name}, environment step {at}: action is NaN or infinite.")

    @contextlib.contextmanager
    def _told_in_step(self, step: int) -> Iterator[None]:
        """Says of a fault of the environments in which vector step it was met."""
        try:
            yield
        except (NonFiniteError, IncompatibleEnvironmentError, EnvironmentFailedError) as error:
            at = step * self.learning.num_envs
            sentence = f"Environment step {at} ({self._whose(error)}): {error}"
            raise type(error)(sentence) from error.__cause__ or error

    def _whose(self, error: MaxentRLError) -> str:
        """The member whose environment is at fault; all seeds where that is not known."""
        if error.place is None:
            return f"seeds {tuple(dict.fromkeys(self.seeds))}"
        index, count = error.place
        name = self._names[index * len(self._names) // count]
        return name[0].lower() + name[1:]

    def _choose(self) -> Array:
        observation, step = self._by_seed(self._observation), np.int32(self.step)
        seeds = self.learner.seeds
        action: Array = choose_actions(self._agent, seeds, observation, step, self._schedule, self.learning)
        return action

    def check(self) -> None:
        """Raises `NonFiniteError` if a metric was not finite."""
        check_faults(self.learner, self.learning, self._names)

    def take_remarks(self) -> list[str]:
        """What users should know of the environments, found since the last call: a sentence each, none twice."""
        return self._envs.take_remarks()

    def take_metrics(self) -> list[dict[str, float]]:
        """Means since the last call, one dict per seed."""
        self.learner, metrics = metric_means(self.learner, self.learning)
        self._episodes, episodes = self._episodes.take()
        parts = zip(episodes, self._successes.take(), metrics, strict=True)
        return [episode | success | metric for episode, success, metric in parts]

    def evaluate(self, episodes: int) -> list[Outcomes]:
        """Plays episodes with the most likely actions in environments of their own, one entry per seed."""
        return evaluate_host(
            self._agent,
            self.learner.seeds.agent,
            self.seeds,
            self.step * self.learning.num_envs,
            episodes,
            self._make_evaluation_envs,
        )

    def get_state(self) -> dict[str, Any]:
        """The arrays that decide what follows, but for the rows of the replay buffer."""
        return {
            "learner": without_rows(self.learner),
            "episodes": self._episodes,
            "observation": self._observation,
            "action": self._action,
        }

    def get_env_state(self) -> dict[str, Any] | None:
        """What the environments tell of themselves."""
        state = self._envs.get_state()
        return None if state is None else state | {_SUCCESSES: self._successes.get_state()}

    def set_state(self, state: dict[str, Any], env_state: dict[str, Any] | None, rows: Array, step: int) -> bool:
        """Takes back what `get_state` and `get_env_state` gave; False if new episodes had to be started."""
        self.learner = with_rows(state["learner"], rows)
        self.step = step
        if env_state is None:
            # The episodes that were running go on nowhere: no return may reach from them into the new ones.
            cut = self.learning.layout.cut(rows, self.learner.counters.inserted)
            self.learner = with_rows(self.learner, cut)
            self.start()
            return False
        if _SUCCESSES in env_state:  # checkpoints of before they were told have none
            self._successes.set_state(env_state[_SUCCESSES])
        self._envs.set_state(env_state)
        self._episodes, self._observation, self._action = state["episodes"], state["observation"], state["action"]
        return True

    def close(self) -> None:
        """Frees the environments."""
        self._envs.close()

    def _by_seed(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.reshape(len(self.seeds), self.learning.num_envs, *array.shape[1:])


@partial(jax.jit, static_argnames="learning", donate_argnames="learner", compiler_options=compiler_options())
def host_step(
    agent: Agent[Any],
    learner: Learner,
    rows: Array,
    schedule: Schedule,
    learning: Learning,
    paid: Paid | None = None,
) -> Learner:
    """Stores transitions and learns.

    Args:
      agent: with numbers as arrays.
      learner: state of all seeds; donated.
      rows: [seed, env, width] packed transitions of one vector step.
      schedule: when to learn.
      learning: the static side.
      paid: batches to learn from, where goals are relabelled; None to draw them here.
    """

    def run(agent: Agent[Any], learner: Learner, rows: Array, schedule: Schedule, paid: Paid | None) -> Learner:
        updates = schedule.updates_due(learner.counters.step + 1)
        drawn = None if paid is None else paid.transitions(learning)
        return store_and_learn(agent, learning, learner, rows, updates, drawn=drawn)

    run = sharded(learning.mesh, run, (spread(agent), LEARNER, SEEDS, SAME, SEEDS), LEARNER)
    after: Learner = run(agent, learner, rows, schedule, paid)
    return after


@partial(jax.jit, static_argnames="learning")
def choose_actions(
    agent: Agent[Any], seeds: SeedState, observation: Array, step: Array, schedule: Schedule, learning: Learning
) -> Array:
    """Chooses actions [seed, env, action] at observations [seed, env, observation], after `step` vector steps."""

    def run(agent: Agent[Any], seeds: SeedState, observation: Array, step: Array, schedule: Schedule) -> Array:
        return act(agent, learning, seeds, observation, step, schedule)

    run = sharded(learning.mesh, run, (spread(agent), SEEDS, SEEDS, SAME, SAME), SEEDS)
    action: Array = run(agent, seeds, observation, step, schedule)
    return action
