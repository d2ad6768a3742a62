"""Gymnasium environments side by side, with their own resets and episode boundaries.

Under Gymnasium's own vector environments the row after an episode's end can be a fake one, and statistics wrappers have been
wrong at resets: here each environment is stepped and reset explicitly, and what an episode's last step gave is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.adapters.horizon import horizon_of
from maxent_rl.envs.adapters.snapshot import can_snapshot, restore, snapshot
from maxent_rl.envs.adapters.watch import Watch
from maxent_rl.envs.adapters.wrappers import refuse_learning_wrappers
from maxent_rl.envs.host import Bools, Floats, HostStep
from maxent_rl.errors import CheckpointError, IncompatibleEnvironmentError, NonFiniteError
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
          IncompatibleEnvironmentError: spaces that are not flat numbers, a wrapper that learns, or `make` gives no new
            environment.
        """
        self._make, self._seeds = make, [int(seed) for seed in seeds]
        self._envs: list[gymnasium.Env[Any, Any]] = []
        self._resting: list[gymnasium.Env[Any, Any]] = []
        self._pool: ThreadPoolExecutor | None = None
        try:
            self._envs.append(_checked(make(), name))
            self._name = name or name_of(self._envs[0])
            limit = horizon_of(self._envs[0], horizon)
            self._watch = Watch(self._name, limit)
            self._spec = make_spec(self._envs[0], self._name, limit.steps)
            self._envs += [_checked(make(), name) for _ in self._seeds[1:]]
            if len({id(env) for env in self._envs}) < len(self._envs):
                raise IncompatibleEnvironmentError(
                    f"The function that makes {self._name} gave the same environment twice; expected a new one each time."
                )
        except BaseException:
            self.close()
            raise
        self._commands = Commands(self._envs[0].action_space)
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
        for index, (env, seed) in enumerate(zip(self._envs, self._seeds, strict=True)):
            with self._watch.calls():
                observed = env.reset(seed=seed)[0]
            if np.shape(observed) != env.observation_space.shape:
                raise IncompatibleEnvironmentError(
                    f"{self._name} gave an observation of shape {np.shape(observed)}; expected that of its observation "
                    f"space, {env.observation_space.shape}."
                )
            self._observation[index] = np.ravel(observed)
        self._elapsed[:] = 0
        check_finite(self._name, self._observation, np.zeros(self.num_envs), self._elapsed)
        return self._observation.copy()

    def step(self, action: NDArray[Any]) -> HostStep:
        """Takes one step in every environment; `action` is [N, action] in [-1, 1], or [N] for discrete actions."""
        count, commands = self.num_envs, self._commands(action)
        next_observation, reward = np.empty_like(self._observation), np.empty(count, np.float32)
        terminated, truncated = np.zeros(count, bool), np.zeros(count, bool)

        def advance(part: range) -> None:
            for index in part:
                observed, paid, terminated[index], truncated[index], _ = self._envs[index].step(commands[index])
                next_observation[index] = np.ravel(observed)
                reward[index] = paid
                if not index:
                    self._watch.saw(observed, paid)

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
        return HostStep(next_observation, reward, terminated, truncated, self._observation.copy())

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
            for index in np.flatnonzero(done):
                self._observation[index] = np.ravel(self._envs[index].reset()[0])
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
        for env, seed, saved in zip(self._envs, self._seeds, state["envs"], strict=True):
            env.reset(seed=seed)  # builds whatever an environment builds on its first reset
            restore(env, saved)
        self._elapsed, self._observation = state["elapsed"].copy(), state["observation"].copy()

    def close(self) -> None:
        """Closes every environment."""
        if self._pool is not None:
            self._pool.shutdown()
        for env in self._envs + self._resting:
            env.close()


class Commands:
    """Takes agents' actions to an environment's own units, shape and type."""

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        """Reads the bounds.

        Args:
          space: of one action; Box or Discrete.
        """
        self._shape = space.shape or ()
        self._discrete = isinstance(space, gymnasium.spaces.Discrete)
        if isinstance(space, gymnasium.spaces.Discrete):
            self._dtype: Any = space.dtype
            self._low = self._high = np.asarray(space.start)
        elif isinstance(space, gymnasium.spaces.Box):
            self._dtype = space.dtype
            self._low, self._high = np.ravel(space.low).astype(np.float64), np.ravel(space.high).astype(np.float64)

    def __call__(self, action: NDArray[Any]) -> NDArray[Any]:
        """Rescales, or counts from where the environment counts.

        Args:
          action: [N, action] in [-1, 1], or [N] integers for discrete actions.

        Returns:
          [N, ...] commands.
        """
        action = np.asarray(action)
        if self._discrete:
            # A discrete action may have passed through a buffer of floats.
            commands: NDArray[Any] = (action.reshape(len(action)) + self._low).astype(self._dtype)
            return commands
        scaled = self._low + (action.astype(np.float64) + 1.0) * (self._high - self._low) / 2.0
        # Rounding must not leave the box.
        bounded = np.clip(scaled, self._low, self._high).astype(self._dtype)
        rescaled: NDArray[Any] = bounded.reshape(len(action), *self._shape)
        return rescaled


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


def make_spec(env: gymnasium.Env[Any, Any], name: str, horizon: int) -> Spec:
    """Checks an environment's spaces and wrappers at the door.

    Args:
      env: the environment.
      name: for messages.
      horizon: the most steps of an episode.

    Raises:
      IncompatibleEnvironmentError: saying what was expected and what came.
    """
    refuse_learning_wrappers(env, name)
    return spec_of_spaces(env.observation_space, env.action_space, name, horizon)


def spec_of_spaces(observed: gymnasium.Space[Any], acted: gymnasium.Space[Any], name: str, horizon: int) -> Spec:
    """Checks the spaces of one environment, as `make_spec` does."""
    shape = (_observation_size(observed, name),)
    if isinstance(acted, gymnasium.spaces.Discrete):
        return Spec(shape, (), horizon, num_actions=int(acted.n))
    if not isinstance(acted, gymnasium.spaces.Box) or np.dtype(acted.dtype).kind != "f":
        raise IncompatibleEnvironmentError(
            f"{name} takes actions from {_described(acted)}; expected a Box of real numbers or Discrete."
        )
    low, high = np.ravel(acted.low).astype(float), np.ravel(acted.high).astype(float)
    if not low.size:
        raise IncompatibleEnvironmentError(f"{name} takes actions without entries; expected one entry at least.")
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise IncompatibleEnvironmentError(
            f"{name} has actions without finite bounds ({low.min()} to {high.max()}); expected finite ones, to which "
            "[-1, 1] is rescaled. Give its action_space bounds, or wrap it in gymnasium.wrappers.TransformAction."
        )
    return Spec(shape, (low.size,), horizon, action_low=tuple(low.tolist()), action_high=tuple(high.tolist()))


def _observation_size(space: gymnasium.Space[Any], name: str) -> int:
    if not isinstance(space, gymnasium.spaces.Box):
        raise IncompatibleEnvironmentError(
            f"{name} observes {_described(space)}; expected a Box of numbers. "
            "Wrap it in gymnasium.wrappers.FlattenObservation."
        )
    if space.dtype == np.uint8 and len(space.shape) > 1:
        raise IncompatibleEnvironmentError(
            f"{name} observes images of shape {space.shape}; expected a Box of numbers. Wrap it in "
            "gymnasium.wrappers.TransformObservation with features of them, or in FlattenObservation for the bare pixels."
        )
    if np.dtype(space.dtype).kind not in "fiub" or not np.prod(space.shape):
        raise IncompatibleEnvironmentError(
            f"{name} observes {_described(space)}; expected a Box of numbers, not empty."
        )
    return int(np.prod(space.shape))


def _described(space: gymnasium.Space[Any]) -> str:
    return f"a {type(space).__name__} space of shape {space.shape} and type {space.dtype}"


def name_of(env: gymnasium.Env[Any, Any]) -> str:
    """What an environment calls itself: its id, or its class."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def _checked(env: Any, name: str | None) -> gymnasium.Env[Any, Any]:
    if not isinstance(env, gymnasium.Env):
        raise IncompatibleEnvironmentError(
            f"{name or 'The function that makes the environment'} gave a {type(env).__name__}; expected a gymnasium.Env."
        )
    return env
