"""Gymnasium environments side by side, with their own resets and episode boundaries.

The environments are stepped one after another: a step of HalfCheetah takes 70 us, a gradient step for it about 100 times as
long, so that with the usual one gradient step for each environment step there is nothing to win by threads or processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.host import Bools, Floats, HostStep
from maxent_rl.envs.snapshot import can_snapshot, restore, snapshot
from maxent_rl.errors import IncompatibleEnvironmentError, NonFiniteError
from maxent_rl.types import Spec

DEFAULT_HORIZON = 1000


class GymnasiumEnvs:
    """N environments of one kind; see `HostEnvs` for what the methods promise.

    Under Gymnasium's own vector environments the row after an episode's end can be a fake one, and statistics wrappers have
    been wrong at resets: here each environment is stepped and reset explicitly.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]],
        seeds: Sequence[int],
        name: str,
        horizon: int | None = None,
    ) -> None:
        """Makes the environments.

        Args:
          make: makes one environment.
          seeds: one for each environment, for its first reset; it is reset without a seed afterwards.
          name: for messages.
          horizon: truncates episodes here; None for the environment's own limit, or 1,000 steps where it has none.

        Raises:
          IncompatibleEnvironmentError: spaces that are not flat numbers.
        """
        self._make, self._seeds, self._name = make, list(seeds), name
        self._envs = [make() for _ in self._seeds]
        env = self._envs[0]
        limit = env.spec.max_episode_steps if env.spec is not None else None
        self._limit = horizon or (DEFAULT_HORIZON if limit is None else None)
        self._spec = make_spec(env, name, self._limit or limit or DEFAULT_HORIZON)
        self._low, self._high = (
            (None, None)
            if self._spec.action_low is None
            else (np.float64(self._spec.action_low), np.float64(self._spec.action_high))
        )
        self._elapsed = np.zeros(len(self._envs), np.int64)
        self._observation = np.zeros((len(self._envs), self._spec.observation_size), np.float32)
        self._can_snapshot: bool | None = None

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
            self._observation[index] = np.ravel(env.reset(seed=seed)[0])
        self._elapsed[:] = 0
        self._check_finite(self._observation, np.zeros(self.num_envs))
        return self._observation.copy()

    def step(self, action: Floats) -> HostStep:
        """Takes one step in every environment; `action` is [N, action] in [-1, 1], or [N] for discrete actions."""
        count = self.num_envs
        next_observation = np.empty_like(self._observation)
        reward, terminated, truncated = np.empty(count, np.float32), np.zeros(count, bool), np.zeros(count, bool)
        commands = self._commands(action)
        for index, env in enumerate(self._envs):
            observed, paid, terminated[index], truncated[index], _ = env.step(commands[index])
            next_observation[index] = np.ravel(observed)
            reward[index] = paid
        self._elapsed += 1
        if self._limit is not None:
            truncated |= self._elapsed >= self._limit
        truncated &= ~terminated
        self._check_finite(next_observation, reward)
        self._observation = next_observation.copy()
        self._restart(terminated | truncated)
        return HostStep(next_observation, reward, terminated, truncated, self._observation.copy())

    def _restart(self, done: Bools) -> None:
        for index in np.flatnonzero(done):
            self._observation[index] = np.ravel(self._envs[index].reset()[0])
            self._elapsed[index] = 0
            self._check_finite(self._observation[index : index + 1], np.zeros(1), offset=int(index))

    def _commands(self, action: NDArray[Any]) -> NDArray[Any]:
        """Actions in the environments' own units, shape and type."""
        if self._spec.num_actions is not None:
            return np.asarray(action).reshape(self.num_envs).astype(np.int64)
        assert self._low is not None and self._high is not None
        space = self._envs[0].action_space
        scaled = self._low + (np.float64(action) + 1.0) * (self._high - self._low) / 2.0
        # Rounding must not leave the box.
        bounded = np.clip(scaled, self._low, self._high).astype(space.dtype)
        return bounded.reshape(self.num_envs, *(space.shape or ()))

    def _check_finite(self, observation: Floats, reward: NDArray[Any], offset: int = 0) -> None:
        if np.isfinite(observation).all() and np.isfinite(reward).all():
            return
        index = int(np.argmin(np.isfinite(observation).all(axis=1) & np.isfinite(reward)))
        entries = np.flatnonzero(~np.isfinite(observation[index]))
        what = f"entry {entries[0]} of the observation" if len(entries) else "the reward"
        value = observation[index, entries[0]] if len(entries) else reward[index]
        raise NonFiniteError(
            f"{self._name} (environment {index + offset} of {self.num_envs}) gave {value} as {what} "
            f"in step {self._elapsed[index + offset]} of its episode."
        )

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
        """Takes back what `get_state` gave; later steps are then bit-identical."""
        for env, seed, saved in zip(self._envs, self._seeds, state["envs"], strict=True):
            env.reset(seed=seed)  # builds whatever an environment builds on its first reset
            restore(env, saved)
        self._elapsed, self._observation = state["elapsed"].copy(), state["observation"].copy()

    def close(self) -> None:
        """Closes every environment."""
        for env in self._envs:
            env.close()


def make_spec(env: gymnasium.Env[Any, Any], name: str, horizon: int) -> Spec:
    """Checks an environment's spaces at the door.

    Args:
      env: the environment.
      name: for messages.
      horizon: the most steps of an episode.

    Raises:
      IncompatibleEnvironmentError: saying what was expected and what came.
    """
    spaces = gymnasium.spaces
    observed, acted = env.observation_space, env.action_space
    if not isinstance(observed, spaces.Box):
        raise IncompatibleEnvironmentError(
            f"{name} observes a {type(observed).__name__} space; expected a Box of numbers. "
            "Wrap it in gymnasium.wrappers.FlattenObservation."
        )
    if observed.dtype is None or (observed.dtype == np.uint8 and len(observed.shape) > 1):
        raise IncompatibleEnvironmentError(
            f"{name} observes images of shape {observed.shape}; expected a Box of numbers. "
            "Wrap it in something that makes features of them."
        )
    shape = (int(np.prod(observed.shape)),)
    if isinstance(acted, spaces.Discrete):
        if acted.start != 0:
            raise IncompatibleEnvironmentError(f"{name} counts its actions from {acted.start}; expected from 0.")
        return Spec(shape, (), horizon, num_actions=int(acted.n))
    if not isinstance(acted, spaces.Box):
        raise IncompatibleEnvironmentError(
            f"{name} takes actions from a {type(acted).__name__} space; expected a Box or Discrete."
        )
    low, high = np.ravel(acted.low).astype(float), np.ravel(acted.high).astype(float)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise IncompatibleEnvironmentError(
            f"{name} has actions without finite bounds ({low.min()} to {high.max()}); expected finite ones, to which "
            "[-1, 1] is rescaled. Wrap it in gymnasium.wrappers.RescaleAction or ClipAction with bounds."
        )
    return Spec(shape, (low.size,), horizon, action_low=tuple(low.tolist()), action_high=tuple(high.tolist()))
