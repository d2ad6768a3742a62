"""Gymnasium environments side by side, with their own resets and episode boundaries.

Under Gymnasium's own vector environments the row after an episode's end can be a fake one, and statistics wrappers have been
wrong at resets: here each environment is stepped and reset explicitly, and what an episode's last step gave is kept.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import fields
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.adapters.checks import Checks, check_spaces, making
from maxent_rl.envs.adapters.goals import GoalRule
from maxent_rl.envs.adapters.horizon import horizon_of
from maxent_rl.envs.adapters.snapshot import can_snapshot, restore, snapshot
from maxent_rl.envs.adapters.spaces import spec_of_spaces
from maxent_rl.envs.adapters.watch import Watch
from maxent_rl.envs.adapters.wrappers import refuse_learning_wrappers
from maxent_rl.envs.host import Bools, Floats, HostStep
from maxent_rl.envs.told import raised
from maxent_rl.errors import CheckpointError, IncompatibleEnvironmentError, NonFiniteError
from maxent_rl.spaces import ActionRule
from maxent_rl.types import Spec


class GymnasiumEnvs:
    """N environments of one kind; see `HostEnvs` for what the methods promise."""

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]],
        seeds: Sequence[int],
        name: str | None = None,
        workers: int | None = None,
        horizon: int | None = None,
    ) -> None:
        """Makes the environments.

        Args:
          make: makes one environment.
          seeds: one for each environment, for its first reset; it is reset without a seed afterwards.
          name: for messages; None for what the environment calls itself.
          workers: threads that share the environments; None for one. What comes out does not depend on it.
          horizon: truncates episodes here; None for the environment's own limit, or 1,000 steps where it has none. Where
            both are given, the shorter one cuts.

        Raises:
          IncompatibleEnvironmentError: spaces that the library does not handle, a wrapper that learns, or `make` gives no new
            environment, or another kind.
          EnvironmentFailedError: `make` raised an exception.
          MissingDependencyError: a package that the environment needs is not installed.
        """
        self._make, self._seeds = make, [int(seed) for seed in seeds]
        self._envs: list[gymnasium.Env[Any, Any]] = []
        self._resting: list[gymnasium.Env[Any, Any]] = []
        self._pool: ThreadPoolExecutor | None = None
        try:
            self._envs.append(_made(make, name))
            self._name = name or name_of(self._envs[0])
            limit = horizon_of(self._envs[0], horizon)
            self._watch = Watch(self._name, limit)
            self._spec = make_spec(self._envs[0], self._name, limit.steps)
            self._envs += [_made(make, name) for _ in self._seeds[1:]]
            self._refuse_unlike()
        except BaseException:
            self.close()
            raise
        assert self._spec.action_space is not None
        self._actions = ActionRule(self._spec.action_space)
        self._can_snapshot: bool | None = None
        # One thread unless asked for more. Median time of a step, one thread against two, on two cores that had other work
        # as well: HalfCheetah 8, 16, 32 environments: 1.1/1.4, 2.5/3.0, 5.2/5.4 ms; Humanoid 5.2/5.4, 7.1/7.4, 17.7/17.7
        # ms. Only 45 % of a step is spent in MuJoCo, which lets other threads run; the rest is Python, one at a time.
        self._workers = max(1, min(workers or 1, self.num_envs))
        if self._workers > 1:
            self._pool = ThreadPoolExecutor(self._workers - 1, thread_name_prefix="envs")
        self._begin(self._seeds)

    def _begin(self, seeds: Sequence[int]) -> None:
        """Takes as many environments as there are seeds; the others rest."""
        every = self._envs + self._resting
        self._seeds, self._envs, self._resting = list(seeds), every[: len(seeds)], every[len(seeds) :]
        self._elapsed = np.zeros(self.num_envs, np.int64)
        self._observation = np.zeros((self.num_envs, self._spec.observation_size), np.float32)
        self._parts = [range(part, self.num_envs, self._workers) for part in range(self._workers)]
        steps, seen = (lambda index: int(self._elapsed[index])), self._watch.saw
        self._checks = Checks(self._name, self._envs, self._spec.observation_space, steps, seen)

    @property
    def spec(self) -> Spec:
        """Shapes, horizon and the environments' own action bounds."""
        return self._spec

    @property
    def num_envs(self) -> int:
        """N."""
        return len(self._envs)

    def reset(self, seeds: Sequence[int] | None = None) -> Floats:
        """Starts the first episode of every environment, of other seeds if such are given: [N, observation]."""
        if seeds is not None:
            self._begin(seeds)
        with self._watch.calls():
            for index, seed in enumerate(self._seeds):
                self._observation[index] = self._checks.reset(index, seed)
        self._elapsed[:] = 0
        check_finite(self._name, self._observation, np.zeros(self.num_envs), self._elapsed)
        return self._observation.copy()

    def step(self, action: NDArray[Any]) -> HostStep:
        """Takes one step in every environment; `action` as `ActionRule` takes it: [N, action] or [N]."""
        count, commands = self.num_envs, self._actions.to_environment(action)
        next_observation, reward = np.empty_like(self._observation), np.empty(count, np.float32)
        terminated, truncated = np.zeros(count, bool), np.zeros(count, bool)
        success: dict[int, Any] = {}

        def advance(part: range) -> None:
            for index in part:
                given = self._checks.step(index, commands[index])
                next_observation[index], reward[index], terminated[index], truncated[index], info = given
                told = info.get("is_success", info.get("success")) if isinstance(info, dict) else None
                if told is not None:
                    success[index] = told

        with self._watch.calls():
            self._share(advance)
        self._elapsed += 1
        cut = self._elapsed >= self._spec.horizon
        if cut.any() and (cut & ~(terminated | truncated)).any():
            self._watch.cut()
        truncated |= cut
        truncated &= ~terminated
        check_finite(self._name, next_observation, reward, self._elapsed)
        self._observation = next_observation.copy()
        self._restart(terminated | truncated)
        solved = _filled(success, count) if success else None
        return HostStep(next_observation, reward, terminated, truncated, self._observation.copy(), solved)

    def goal_rule(self) -> GoalRule:
        """What steps pay for other goals; it is tried out by stepping, so what comes next must be a `reset` or `set_state`.

        Raises:
          IncompatibleEnvironmentError: the environment observes no goals, or cannot say.
        """
        space = self._spec.observation_space
        if space is None or space.goals is None:
            raise IncompatibleEnvironmentError(f"{self._name} observes no achieved_goal and desired_goal.")
        return GoalRule(self._envs[0], space.goals, self._name, self._seeds[0])

    def _share(self, work: Callable[[range], None]) -> None:
        """Does `work` for all parts; if it fails anywhere, only after all parts have come to an end."""
        futures: list[Future[None]] = []
        if self._pool is not None:
            futures = [self._pool.submit(work, part) for part in self._parts[1:]]
        try:
            work(self._parts[0])
        finally:
            wait(futures)
        for future in futures:
            future.result()

    def _restart(self, done: Bools) -> None:
        if not done.any():
            return
        with self._watch.calls():
            for index in np.flatnonzero(done).tolist():
                self._observation[index] = self._checks.reset(index)
        self._elapsed[done] = 0
        check_finite(self._name, self._observation, np.zeros(self.num_envs), self._elapsed)

    def take_remarks(self) -> list[str]:
        """What users should know of these environments, found since the last call: a sentence each, none twice."""
        return self._watch.take()

    def try_state(self) -> None:
        """Finds out whether the environments can tell their state, by stepping them; what comes next is a `reset`."""
        self._can_snapshot = can_snapshot(self._envs[0], self._envs[-1])

    def get_state(self) -> dict[str, Any] | None:
        """Everything that decides later steps, or None where the environment cannot tell it.

        Where that was not tried before the first reset, it is tried with an environment made for it.
        """
        if self._can_snapshot is None:
            with contextlib.closing(self._make()) as further:
                self._can_snapshot = can_snapshot(further, further)
        if not self._can_snapshot:
            return None
        return {
            "envs": [snapshot(env) for env in self._envs],
            "elapsed": self._elapsed.copy(),
            "observation": self._observation.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` gave; later steps are then bit-identical.

        Raises:
          CheckpointError: it is the state of another number of environments.
        """
        if len(state["envs"]) != self.num_envs:
            raise CheckpointError(
                f"The checkpoint holds {len(state['envs'])} environments of {self._name}, expected {self.num_envs}."
            )
        for index, (env, seed) in enumerate(zip(self._envs, self._seeds, strict=True)):
            self._checks.reset(index, seed)  # builds whatever an environment builds on its first reset
            restore(env, state["envs"][index])
        self._elapsed, self._observation = state["elapsed"].copy(), state["observation"].copy()

    def close(self) -> None:
        """Closes every environment; one that fails to is worth a warning, not what was done before."""
        if self._pool is not None:
            self._pool.shutdown()
        for env in self._envs + self._resting:
            try:
                env.close()
            except Exception as error:  # whatever a foreign environment raises
                warnings.warn(
                    f"{name_of(env)} raised {raised(error)} when it was closed.", RuntimeWarning, stacklevel=2
                )

    def _refuse_unlike(self) -> None:
        """One environment has the place of each, and what is read off the first holds for all."""
        if len({id(env) for env in self._envs}) < len(self._envs):
            raise IncompatibleEnvironmentError(
                f"The function that makes {self._name} gave the same environment twice; expected a new one each time."
            )
        for env in self._envs[1:]:
            spec = make_spec(env, self._name, self._spec.horizon)
            for which in ("observation_space", "action_space"):
                one, other = getattr(self._spec, which), getattr(spec, which)
                for part in (each.name for each in fields(one)):
                    if getattr(one, part) != getattr(other, part):
                        raise IncompatibleEnvironmentError(
                            f"The function that makes {self._name} gave environments that differ in the {part} of their "
                            f"{which}, {getattr(one, part)} and {getattr(other, part)}; expected the same each time."
                        )


def _filled(values: dict[int, Any], count: int) -> Floats:
    """[count] the values at their places, NaN at the others and for what is no number."""
    filled = np.full(count, np.nan, np.float32)
    for index, value in values.items():
        if np.size(value) == 1 and np.asarray(value).dtype.kind in "biuf":
            filled[index] = np.asarray(value).item()
    return filled


def check_finite(name: str, observation: Floats, reward: NDArray[Any], elapsed: NDArray[np.int64]) -> None:
    """Finds NaN and infinity.

    Args:
      name: of the environment, for messages.
      observation: [N, observation].
      reward: [N].
      elapsed: [N] steps taken in the running episodes.

    Raises:
      NonFiniteError: naming the environment, its step, and the entry of the observation or the reward.
    """
    if np.isfinite(observation).all() and np.isfinite(reward).all():
        return
    index = int(np.argmin(np.isfinite(observation).all(axis=1) & np.isfinite(reward)))
    entries = np.flatnonzero(~np.isfinite(observation[index]))
    what = f"entry {entries[0]} of the observation" if len(entries) else "the reward"
    value = observation[index, entries[0]] if len(entries) else reward[index]
    when = f"in step {elapsed[index]} of its episode" if elapsed[index] else "at the start of an episode"
    error = NonFiniteError(f"{name} (environment {index} of {len(reward)}) gave {value} as {what} {when}.")
    error.place = index, len(reward)
    raise error


def make_spec(env: gymnasium.Env[Any, Any], name: str, horizon: int) -> Spec:
    """What agents must know of an environment, whose wrappers and spaces are checked.

    Args:
      env: the environment.
      name: for messages.
      horizon: the most steps of an episode.

    Raises:
      IncompatibleEnvironmentError: saying what was expected and what came.
    """
    check_spaces(env, name)
    refuse_learning_wrappers(env, name)
    return spec_of_spaces(env.observation_space, env.action_space, name, horizon)


def name_of(env: gymnasium.Env[Any, Any]) -> str:
    """What an environment calls itself: its id, or its class."""
    return str(getattr(env.spec, "id", type(env.unwrapped).__name__))


def _made(make: Callable[[], Any], name: str | None) -> gymnasium.Env[Any, Any]:
    maker = name or "The function that makes the environment"
    with making(maker):
        env = make()
    if isinstance(getattr(env, "spec", None), Spec):
        raise IncompatibleEnvironmentError(
            f"{maker} gave a device environment ({type(env).__name__}); expected a gymnasium.Env: give a device environment "
            "itself, not what makes it."
        )
    if not isinstance(env, gymnasium.Env):
        raise IncompatibleEnvironmentError(f"{maker} gave a {type(env).__name__}; expected a gymnasium.Env.")
    return env
