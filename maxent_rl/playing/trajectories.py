"""Episodes in full, played as evaluation plays them: what was seen, what was done, what it paid.

The start states, and the random numbers of sampled actions, are those of `evaluate_policy` with the same seed.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from maxent_rl.agents.base import Agent
from maxent_rl.agents.programs import program_of_agent
from maxent_rl.envs.device import DeviceEnv
from maxent_rl.envs.env import Env
from maxent_rl.envs.host import HostEnvs
from maxent_rl.errors import NonFiniteError
from maxent_rl.playing.choosing import Choose, sampled_action
from maxent_rl.playing.evaluation import HostPlay, advance_device, play_host, start_device
from maxent_rl.playing.opening import check_episodes, open_environment
from maxent_rl.runs.policy import Policy
from maxent_rl.seeds.streams import environment_seed
from maxent_rl.types import Array, PyTree

Floats = NDArray[np.float32]

_PLAY = 0  # a stream of random numbers


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """One episode of n steps.

    Attributes:
      observation: [n + 1, observation]; the last one is what the last action led to.
      action: [n, action] in [-1, 1], or [n] for discrete ones.
      reward: [n].
      notes: what was noted on each action, a pytree of [n, ...].
      terminated: whether a terminal state ended it; a time limit cut it otherwise.
    """

    observation: Floats
    action: Floats
    reward: Floats
    notes: PyTree = ()
    terminated: bool = False

    @property
    def length(self) -> int:
        """Steps taken."""
        return len(self.reward)

    @property
    def total(self) -> float:
        """Undiscounted return."""
        return float(self.reward.sum(dtype=np.float64))


def collect_trajectories(
    policy: Policy,
    episodes: int = 10,
    *,
    seed: int = 0,
    choose: Choose = sampled_action,
    env: Env | None = None,
    num_envs: int | None = None,
) -> list[Trajectory]:
    """Plays episodes of an exported policy and keeps every step.

    Args:
      policy: as from `load_policy`.
      episodes: how many.
      seed: decides the start states, and the actions where they are sampled.
      choose: how the agent acts, and what is noted of it: `sampled_action`, `most_likely`, or a function of one's own
        (at the top of a module: each new function compiles anew).
      env: the environment, where it was not trained on one with a name.
      num_envs: host environments that are open at once, as for `evaluate_policy`.

    Raises:
      InvalidSettingError: fewer than one episode, or a negative seed.
      UnknownNameError: there is no environment of that name.
      IncompatibleEnvironmentError: the environment's shapes are not those that the policy was trained on.
      MissingDependencyError: a package that the environment needs is not installed.
      NonFiniteError: the environment gave NaN or infinity.
    """
    check_episodes(episodes, seed)
    key = jax.random.key(seed)
    source = open_environment(policy, env, num_envs)
    return record_episodes(policy, source, episodes, seed=seed, step=0, key=key, choose=choose)


def record_episodes(
    policy: Policy,
    source: DeviceEnv | Callable[[list[int]], HostEnvs],
    episodes: int,
    *,
    seed: int,
    step: int,
    key: Array,
    choose: Choose = sampled_action,
) -> list[Trajectory]:
    """As `collect_trajectories`, in an environment that is open already.

    Args:
      policy: what acts.
      source: a device environment, or what makes host environments from their seeds.
      episodes: how many.
      seed: decides, with the step, the start states of host environments.
      step: another one, other episodes.
      key: [] random key of the actions, and of the start states of device environments.
      choose: as for `collect_trajectories`.

    Raises:
      NonFiniteError: the environment gave NaN or infinity.
    """
    states = jax.tree.map(lambda leaf: leaf[None], policy.state)
    keys = key[None]
    trajectories: list[Trajectory] = []
    if callable(source):
        rows = play_host(policy.agent, states, (seed,), step, episodes, source, keys, choose)
        for _, part in itertools.groupby(rows, key=lambda row: int(row.episode[0])):
            trajectories += _of_host(list(part))
    else:
        found = _record(policy.agent, states, keys, np.int32(step), episodes, source, choose)
        # There is one seed, whose axis comes first in what is there once, and second in what is there for every step.
        first, length, terminated = (np.asarray(leaf)[0] for leaf in found[:3])
        trajectories = _cut(first, length, terminated, jax.tree.map(lambda leaf: np.asarray(leaf)[:, 0], found[3]))
    if not all(np.isfinite(each.reward).all() and np.isfinite(each.observation).all() for each in trajectories):
        raise NonFiniteError(f"{policy.env} gave NaN or infinity as a reward or an observation in these episodes.")
    return trajectories


def keep_playing(
    policy: Policy,
    source: DeviceEnv | Callable[[list[int]], HostEnvs],
    together: int,
    *,
    seed: int,
    choose: Choose = sampled_action,
) -> Iterator[list[Trajectory]]:
    """Plays episodes without end, `together` of them side by side at a time.

    Args:
      policy: what acts.
      source: as for `record_episodes`.
      together: episodes.
      seed: decides all of them.
      choose: as for `collect_trajectories`; one object, as each new one compiles anew.

    Raises:
      NonFiniteError: the environment gave NaN or infinity.
    """
    for first in itertools.count(0, together):
        own = environment_seed(seed, _PLAY, first) % 2**31
        yield record_episodes(policy, source, together, seed=own, step=0, key=jax.random.key(own), choose=choose)


def _of_host(rows: list[HostPlay]) -> list[Trajectory]:
    """The episodes that were played side by side, of one seed."""
    first, length = rows[0].observation, np.sum([row.running for row in rows], axis=0)
    following, action, reward = (
        np.stack([getattr(row, name) for row in rows]) for name in ("next_observation", "action", "reward")
    )
    notes = jax.tree.map(lambda *each: np.stack(each)[:, 0], *(row.notes for row in rows))
    terminated = np.any([row.running & row.terminated for row in rows], axis=0)
    return _cut(first, length, terminated, (following, action, notes, reward))


def _cut(first: Any, length: Any, terminated: Any, steps: tuple[Any, Any, PyTree, Any]) -> list[Trajectory]:
    """Episodes from their first observations, lengths and ends [env], and what every step gave [step, env, ...]."""
    trajectories = []
    for index, count in enumerate(length):
        # Copies, so that the rest can be freed.
        kept = jax.tree.map(lambda leaf, index=index, count=count: leaf[:count, index].copy(), steps)
        following, action, notes, reward = kept
        observation = np.concatenate([first[index][None], following])
        trajectories.append(Trajectory(observation, action, reward, notes, bool(terminated[index])))
    return trajectories


@program_of_agent("episodes", "env", "choose")
def _record(
    agent: Agent[Any], states: PyTree, keys: Array, step: Array, episodes: int, env: DeviceEnv, choose: Choose
) -> tuple[Array, Array, Array, PyTree]:
    """First observations, lengths and whether episodes terminated [seed, env]; what every step gave [step, seed, env, ...]."""
    start = start_device(agent, states, keys, step, episodes, env)

    def advance(play: Any, _: None) -> tuple[Any, PyTree]:
        play, (action, notes, reward) = advance_device(agent, states, keys, play, env, choose)
        return play, (play.observation, action, notes, reward)

    played, rows = jax.lax.scan(advance, start, length=env.spec.horizon)
    return start.observation, played.length, ~played.running, rows
