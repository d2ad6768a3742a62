"""Gymnasium environments side by side, with their own resets and episode boundaries.

Under Gymnasium's own vector environments the row after an episode's end can be a fake one, and statistics wrappers have been
wrong at resets: here each environment is stepped and reset explicitly, and what an episode's last step gave is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.adapters.snapshot import can_snapshot, restore, snapshot
from maxent_rl.envs.adapters.spaces import spec_of_spaces
from maxent_rl.envs.goals import GoalRule
from maxent_rl.envs.host import Bools, Floats, HostStep
from maxent_rl.errors import CheckpointError, IncompatibleEnvironmentError, NonFiniteError
from maxent_rl.spaces import ActionRule, flatten
from maxent_rl.types import Spec

DEFAULT_HORIZON = 1000


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
          IncompatibleEnvironmentError: spaces that the library does not handle, or `make` gives no new environment.
        """
        self._make, self._seeds = make, [int(seed) for seed in seeds]
        self._envs: list[gymnasium.Env[Any, Any]] = []
        self._pool: ThreadPoolExecutor | None = None
        try:
            self._envs.append(_checked(make(), name))
            self._name = name or name_of(self._envs[0])
            limits = [limit for limit in (horizon, time_limit(self._envs[0])) if limit is not None]
            spaces = self._envs[0].observation_space, self._envs[0].action_space
            self._spec = spec_of_spaces(*spaces, self._name, min(limits, default=DEFAULT_HORIZON))
            self._envs += [_checked(make(), name) for _ in self._seeds[1:]]
            if len({id(env) for env in self._envs}) < len(self._envs):
                raise IncompatibleEnvironmentError(
                    f"The function that makes {self._name} gave the same environment twice; expected a new one each time."
                )
        except BaseException:
            self.close()
            raise
        assert self._spec.observation_space is not None
        assert self._spec.action_space is not None
        self._observed, self._actions = self._spec.observation_space, ActionRule(self._spec.action_space)
        self._giver = f"{self._name} gave"
        self._elapsed = np.zeros(self.num_envs, np.int64)
        self._observation = np.zeros((self.num_envs, self._spec.observation_size), np.float32)
        self._can_snapshot: bool | None = None
        # One thread unless asked for more. Median time of a step, one thread against two, on two cores that had other work
        # as well: HalfCheetah 8, 16, 32 environments: 1.1/1.4, 2.5/3.0, 5.2/5.4 ms; Humanoid 5.2/5.4, 7.1/7.4, 17.7/17.7
        # ms. Only 45 % of a step is spent in MuJoCo, which lets other threads run; the rest is Python, one at a time.
        count = max(1, min(workers or 1, self.num_envs))
        self._parts = [range(part, self.num_envs, count) for part in range(count)]
        if count > 1:
            self._pool = ThreadPoolExecutor(count - 1, thread_name_prefix="envs")

    @property
    def spec(self) -> Spec:
        """Shapes, horizon and the environments' own action bounds."""
        return self._spec

    @property
    def num_envs(self) -> int:
        """N."""
        return len(self._envs)

    def reset(self) -> Floats:
        """Starts the first episode of every environment: [N, observation]."""
        for index, (env, seed) in enumerate(zip(self._envs, self._seeds, strict=True)):
            self._observation[index] = flatten(self._observed, env.reset(seed=seed)[0], self._giver)
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
                observed, paid, terminated[index], truncated[index], info = self._envs[index].step(commands[index])
                next_observation[index] = flatten(self._observed, observed, self._giver)
                reward[index] = paid
                told = info.get("is_success", info.get("success"))
                if told is not None:
                    success[index] = told

        self._share(advance)
        self._elapsed += 1
        truncated |= self._elapsed >= self._spec.horizon
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
        if self._observed.goals is None:
            raise IncompatibleEnvironmentError(f"{self._name} observes no achieved_goal and desired_goal.")
        return GoalRule(self._envs[0], self._observed.goals, self._name, self._seeds[0])

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
        for index in np.flatnonzero(done):
            self._observation[index] = flatten(self._observed, self._envs[index].reset()[0], self._giver)
        self._elapsed[done] = 0
        check_finite(self._name, self._observation, np.zeros(self.num_envs), self._elapsed)

    def get_state(self) -> dict[str, Any] | None:
        """Everything that decides later steps, or None where the environment cannot tell it."""
        if self._can_snapshot is None:
            self._can_snapshot = can_snapshot(self._make)
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
        for env, seed, saved in zip(self._envs, self._seeds, state["envs"], strict=True):
            env.reset(seed=seed)  # builds whatever an environment builds on its first reset
            restore(env, saved)
        self._elapsed, self._observation = state["elapsed"].copy(), state["observation"].copy()

    def close(self) -> None:
        """Closes every environment."""
        if self._pool is not None:
            self._pool.shutdown()
        for env in self._envs:
            env.close()


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
    raise NonFiniteError(f"{name} (environment {index} of {len(reward)}) gave {value} as {what} {when}.")


def name_of(env: gymnasium.Env[Any, Any]) -> str:
    """What an environment calls itself: its id, or its class."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def time_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """The most steps of an episode that the environment itself allows, or None where it does not say."""
    limits: list[int | None] = []
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, gymnasium.wrappers.TimeLimit):
            limits.append(layer._max_episode_steps)
        layer = layer.env
    if not limits and env.spec is not None:
        limits.append(env.spec.max_episode_steps)
    return min((limit for limit in limits if limit is not None and limit > 0), default=None)


def _checked(env: Any, name: str | None) -> gymnasium.Env[Any, Any]:
    if not isinstance(env, gymnasium.Env):
        raise IncompatibleEnvironmentError(
            f"{name or 'The function that makes the environment'} gave a {type(env).__name__}; expected a gymnasium.Env."
        )
    return env
