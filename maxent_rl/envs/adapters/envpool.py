"""Environments of envpool: the same tasks as Gymnasium's, stepped by C++ threads.

envpool resets an ended environment by itself in the next step, whose row is a fake one. Here the environments that ended are
reset at once, by their numbers, so that this row never comes about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.adapters.checks import making
from maxent_rl.envs.adapters.gymnasium import check_finite
from maxent_rl.envs.adapters.horizon import DEFAULT_HORIZON, NO_LIMIT, Horizon
from maxent_rl.envs.adapters.spaces import spec_of_spaces
from maxent_rl.envs.adapters.watch import Watch
from maxent_rl.envs.host import Bools, Floats, HostStep
from maxent_rl.envs.told import raised
from maxent_rl.errors import (
    CheckpointError,
    EnvironmentFailedError,
    IncompatibleEnvironmentError,
    MissingDependencyError,
    unknown_name,
)
from maxent_rl.spaces import ActionRule, flatten
from maxent_rl.types import Spec

_VERSION = re.compile(r"(?P<base>.+)-v(?P<version>\d+)")
_NO_LIMIT = 2**31 - 1  # what envpool writes where there is none


class EnvpoolEnvs:
    """N environments of one kind; see `HostEnvs` for what the methods promise.

    Environment i draws its random numbers from `seeds[i]` alone, in all its episodes: it does the same in whatever company
    and with any number of threads. envpool reads 32 bits of a seed. It cannot tell its state.
    """

    def __init__(self, name: str, seeds: Sequence[int], horizon: int | None = None) -> None:
        """Makes the environments.

        Args:
          name: envpool's id, with or without version (the newest).
          seeds: one for each environment.
          horizon: truncates episodes here; None for the environment's own limit, or 1,000 steps where it has none. Where
            both are given, the shorter one cuts.

        Raises:
          MissingDependencyError: envpool is not installed.
          UnknownNameError: envpool has no such environment.
          IncompatibleEnvironmentError: spaces that are not flat numbers, or several players.
          EnvironmentFailedError: envpool cannot make it.
        """
        envpool = _import_envpool()
        self._id = _envpool_id(name, envpool.list_all_envs())
        self._name, self._fresh = f"envpool/{self._id}", True
        self._seeds = [_signed(seed) for seed in seeds]
        config = envpool.make_spec(self._id).config._asdict()
        if config.get("max_num_players", 1) > 1:
            raise IncompatibleEnvironmentError(f"{self._name} has several players; expected one.")
        own = config.get("max_episode_steps")
        limits = [limit for limit in (horizon, own) if limit is not None and 0 < limit < _NO_LIMIT]
        limit = Horizon(min(limits)) if limits else Horizon(DEFAULT_HORIZON, NO_LIMIT)
        self._watch = Watch(self._name, limit)
        # Where an episode terminates in the very step of the limit, envpool calls it truncated. With a limit one step later
        # it has its eyes on termination alone, and the cut is made here.
        self._config = {"max_episode_steps": own + 1} if own is not None and 0 < own < _NO_LIMIT else {}
        self._pool = self._make()
        try:
            self._spec = spec_of_spaces(
                self._pool.single_observation_space,
                self._pool.single_action_space,
                self._name,
                limit.steps,
            )
        except BaseException:
            self.close()
            raise
        assert self._spec.observation_space is not None
        assert self._spec.action_space is not None
        self._observed, self._actions = self._spec.observation_space, ActionRule(self._spec.action_space)
        self._elapsed = np.zeros(self.num_envs, np.int64)
        self._observation = np.zeros((self.num_envs, self._spec.observation_size), np.float32)

    @property
    def spec(self) -> Spec:
        """Shapes, horizon and the environments' own action bounds."""
        return self._spec

    @property
    def num_envs(self) -> int:
        """N."""
        return len(self._seeds)

    def reset(self, seeds: Sequence[int] | None = None) -> Floats:
        """Starts the first episode of every environment, of other seeds if such are given: [N, observation]."""
        if seeds is not None:
            self._seeds, self._fresh = [_signed(seed) for seed in seeds], False
            self._elapsed = np.zeros(self.num_envs, np.int64)
            self._observation = np.zeros((self.num_envs, self._spec.observation_size), np.float32)
        if not self._fresh:  # a pool goes on with its random numbers; only a new one begins with its seeds
            self.close()
            self._pool = self._make()
        self._fresh = False
        self._fill(self._observation, *self._ask(self._pool.reset))
        self._elapsed[:] = 0
        check_finite(self._name, self._observation, np.zeros(self.num_envs), self._elapsed)
        return self._observation.copy()

    def step(self, action: NDArray[Any]) -> HostStep:
        """Takes one step in every environment; `action` as `ActionRule` takes it: [N, action] or [N]."""
        observed, paid, ended, cut, info = self._ask(self._pool.step, self._actions.to_environment(action))
        rows = np.asarray(info["env_id"])
        next_observation, reward = np.empty_like(self._observation), np.empty(self.num_envs, np.float32)
        terminated, truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        self._fill(next_observation, observed, info)
        reward[rows], terminated[rows], truncated[rows] = paid, ended, cut
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

    def _restart(self, done: Bools) -> None:
        if not done.any():
            return
        self._fill(self._observation, *self._ask(self._pool.reset, np.flatnonzero(done).astype(np.int32)))
        self._elapsed[done] = 0
        check_finite(self._name, self._observation, np.zeros(self.num_envs), self._elapsed)

    def take_remarks(self) -> list[str]:
        """What users should know of these environments, found since the last call: a sentence each, none twice."""
        return self._watch.take()

    def try_state(self) -> None:
        """Nothing to try."""

    def get_state(self) -> dict[str, Any] | None:
        """None: envpool keeps its state to itself."""
        return None

    def set_state(self, state: dict[str, Any]) -> None:
        """Fails: there is no state to take back.

        Raises:
          CheckpointError: always.
        """
        raise CheckpointError(f"{self._name} cannot take back a state; a resumed run starts new episodes.")

    def close(self) -> None:
        """Stops the threads; may be called again."""
        pool, self._pool = self._pool, None  # the threads end with the last reference
        if pool is not None:
            pool.close()

    def _make(self) -> Any:
        envpool = _import_envpool()
        with making(self._name):
            return envpool.make(
                self._id,
                env_type="gymnasium",
                num_envs=self.num_envs,
                env_seed=self._seeds,
                seed=self._seeds[0],
                **self._config,
            )

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        # Shapes and types are compiled into envpool; what is left is what it raises.
        try:
            return call(*arguments)
        except Exception as error:
            raise EnvironmentFailedError(f"{self._name} raised {raised(error)}.") from error

    def _fill(self, target: Floats, observed: NDArray[Any], info: dict[str, Any]) -> None:
        # Rows come in the order of `env_id`; of a partial reset there are only as many as were reset.
        target[np.asarray(info["env_id"])] = flatten(self._observed, observed, f"{self._name} gave")


def _signed(seed: int) -> int:
    """The 32 bits of a seed as envpool reads them."""
    return (int(seed) + 2**31) % 2**32 - 2**31


def _import_envpool() -> Any:
    try:
        import envpool
    except ImportError as error:
        raise MissingDependencyError(
            f'envpool/ environments need the package envpool ({error}). Install it with: pip install "maxent_rl[envpool]".'
        ) from error
    return envpool


def _envpool_id(name: str, known: Iterable[str]) -> str:
    ids = set(known)
    if name in ids:
        return name
    versions = [int(match["version"]) for match in map(_VERSION.fullmatch, ids) if match and match["base"] == name]
    if versions:
        return f"{name}-v{max(versions)}"
    raise unknown_name("environment", f"envpool/{name}", (f"envpool/{each}" for each in ids))
