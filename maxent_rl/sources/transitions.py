"""Makes data sets of transitions of an environment, in the five kinds by which offline learning is studied.

Source: A Dataset Perspective on Offline Reinforcement Learning (arXiv 2111.04714), "Dataset generation". Its noisy kind is
epsilon-greedy, for discrete actions; Gaussian noise for continuous ones is ours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from maxent_rl import envs as environments
from maxent_rl.agents.base import Agent
from maxent_rl.data.datasets.dataset import Dataset, concatenate, join
from maxent_rl.data.datasets.units import stored_actions
from maxent_rl.envs.device import DeviceEnv
from maxent_rl.envs.host import HostEnvs, HostSource
from maxent_rl.errors import CheckpointError, InvalidSettingError, TooLargeError
from maxent_rl.playing.choosing import Choose, most_likely, sampled_action, uniform_actions
from maxent_rl.playing.opening import open_environment, side_by_side
from maxent_rl.playing.size import free_memory, in_words
from maxent_rl.playing.trajectories import Trajectory, keep_playing
from maxent_rl.runs.policy import Policy, load_policy
from maxent_rl.runs.records import read_csv
from maxent_rl.sources.replay import read_replay
from maxent_rl.types import Array, PyTree, Spec

Kind: TypeAlias = Literal["random", "expert", "mixed", "noisy", "replay"]
Report: TypeAlias = Callable[[int], None]
"""Is told how many transitions there are."""
Source: TypeAlias = DeviceEnv | Callable[[list[int]], HostEnvs]

_SIZE = 100_000
_SIDE_BY_SIDE = 64  # episodes; more would be faster by little, and each takes memory to its end
_RANDOM_SHARE = 0.8


@dataclasses.dataclass(frozen=True)
class Collecting:
    """What is to be collected; see `experiments/dataset.py` for what the settings mean."""

    kind: Kind = "expert"
    policy: str | None = None
    env: str | None = None
    size: int | None = None
    noise: float = 0.2
    seed: int = 0
    policy_seed: int | None = None
    num_envs: int | None = None

    @property
    def wanted(self) -> int:
        """Transitions to play."""
        return _SIZE if self.size is None else self.size


class Collected(NamedTuple):
    """A data set, and sentences on what is not as one might expect."""

    data: Dataset
    notes: list[str]


@struct.dataclass
class Uniform:
    """An agent that acts uniformly, whatever it sees."""

    spec: Spec = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]

    def act(self, state: PyTree, observation: Array, key: Array) -> Array:
        """[env, observation] to actions [env, action]."""
        return uniform_actions(self.spec, len(observation), key)

    def mode(self, state: PyTree, observation: Array) -> Array:
        """None is likelier than another."""
        return self.act(state, observation, jax.random.key(0))


def collect(collecting: Collecting, report: Report = lambda _: None) -> Collected:
    """Plays, or reads what a run has played.

    Args:
      collecting: the settings.
      report: is told of progress.

    Raises:
      InvalidSettingError: settings that cannot work, or contradict each other.
      MaxentRLError: one of its kinds, for policies, runs or environments that are missing or do not fit.
    """
    policy = None if collecting.policy is None else load_policy(collecting.policy, seed=collecting.policy_seed)
    env = _environment(collecting, policy)
    if collecting.kind == "replay":
        assert policy is not None
        data, notes = _replayed(collecting, policy)
        spec = policy.spec
    else:
        source = _open(policy, env, collecting.num_envs)
        spec = _spec(source)
        if collecting.kind == "noisy" and not spec.is_continuous and collecting.noise > 1:
            raise InvalidSettingError(
                f"--noise is the probability of a random action where actions are discrete: at most 1, got "
                f"{collecting.noise:g}."
            )
        _check_fits(collecting.wanted, spec)
        data, notes = _played(collecting, policy, env, source, report), []
    return Collected(dataclasses.replace(data, env=env, about=_about(collecting, policy, spec)), notes)


def _check_fits(count: int, spec: Spec) -> None:
    """Refuses more transitions than memory holds.

    Raises:
      TooLargeError: saying how many it holds.
    """
    each, free = 4 * (2 * spec.observation_size + spec.action_size + 1), free_memory()
    if free is not None and count * each > free:
        raise TooLargeError(
            f"{count:,} transitions take at least {in_words(count * each)} of memory, and {in_words(free)} are free: "
            f"--size may be at most {free // each:,}."
        )


def collecting_in(collecting: Collecting) -> str:
    """The full name of the environment; errors are those of `collect`."""
    policy = None if collecting.policy is None else load_policy(collecting.policy, seed=collecting.policy_seed)
    return _environment(collecting, policy)


def _environment(collecting: Collecting, policy: Policy | None) -> str:
    """The environment's full name."""
    if policy is None:
        if collecting.kind != "random":
            raise InvalidSettingError(f"--kind {collecting.kind} needs --policy RUN: only random actions need none.")
        if collecting.env is None:
            raise InvalidSettingError(
                "Random actions need --env NAME, or --policy RUN, whose environment they then act in."
            )
    if collecting.env is None:
        assert policy is not None
        return policy.env
    name = environments.canonical_name(collecting.env)
    if collecting.kind == "replay" and policy is not None and name != policy.env:
        raise InvalidSettingError(f"The replay buffer is of {policy.env}, not of {name}: leave --env out.")
    return name


def _open(policy: Policy | None, env: str, num_envs: int | None) -> Source:
    """What is acted in."""
    if policy is not None:
        return open_environment(policy, None if env == policy.env else env, num_envs)
    if environments.is_device(env):
        return environments.make_device(env)
    return HostSource(partial(environments.make_host, env), side_by_side(env, num_envs))


def _spec(source: Source) -> Spec:
    if not callable(source):
        return source.spec
    probe = source([0])
    probe.close()
    return probe.spec


def _played(collecting: Collecting, policy: Policy | None, env: str, source: Source, report: Report) -> Dataset:
    """`collecting.size` transitions."""
    spec, size = _spec(source), collecting.wanted
    uniform = Policy(Uniform(spec), (), spec, {"env": env, "backend": None, "step": 0}, seed=0)
    # Episodes that all last to the horizon would come out even.
    episodes = math.ceil(size / spec.horizon)
    together = math.ceil(episodes / math.ceil(episodes / _SIDE_BY_SIDE))

    def play(policy: Policy, choose: Choose, count: int, before: int = 0) -> Dataset:
        parts: list[Dataset] = []
        held = 0
        for trajectories in keep_playing(policy, source, together, seed=collecting.seed, choose=choose):
            parts += [from_trajectory(each, spec) for each in trajectories]
            held += sum(each.length for each in trajectories)
            report(before + min(held, count))
            if held >= count:
                break
        return join(parts).part(0, count)

    if collecting.kind == "random":
        return play(uniform, sampled_action, size)
    assert policy is not None
    if collecting.kind == "noisy":
        return play(policy, partial(disturbed_action, spec, collecting.noise), size)
    if collecting.kind == "expert":
        return play(policy, most_likely, size)
    at_random = round(_RANDOM_SHARE * size)
    first = play(uniform, sampled_action, at_random)
    return concatenate([first, play(policy, most_likely, size - at_random, before=at_random)])


def disturbed_action(
    spec: Spec, noise: float, agent: Agent[Any], state: PyTree, observation: Array, key: Array | None
) -> tuple[Array, PyTree]:
    """`Choose` for the most likely actions, disturbed.

    Args:
      spec: of the environment.
      noise: of discrete actions the probability of a uniform one instead (epsilon-greedy); of continuous ones the standard
        deviation of Gaussian noise, where the range is [-1, 1], to which the sum is clipped.
      agent: acts.
      state: of one seed.
      observation: [env, observation].
      key: [] random key.
    """
    assert key is not None
    action = agent.mode(state, observation)
    if spec.is_continuous:
        return jnp.clip(action + noise * jax.random.normal(key, action.shape), -1.0, 1.0), ()
    which, what = jax.random.split(key)
    uniform = uniform_actions(spec, len(observation), what)
    return jnp.where(jax.random.bernoulli(which, noise, action.shape), uniform, action), ()


def from_trajectory(trajectory: Trajectory, spec: Spec) -> Dataset:
    """An episode as transitions, in the environment's own units."""
    ends = np.arange(trajectory.length) == trajectory.length - 1
    return Dataset(
        observation=np.asarray(trajectory.observation[:-1], np.float32),
        action=stored_actions(trajectory.action, spec.action_space),
        reward=np.asarray(trajectory.reward, np.float32),
        next_observation=np.asarray(trajectory.observation[1:], np.float32),
        terminated=ends & trajectory.terminated,
        truncated=ends & (not trajectory.terminated),
    )


def _replayed(collecting: Collecting, policy: Policy) -> tuple[Dataset, list[str]]:
    assert collecting.policy is not None
    replayed = read_replay(collecting.policy, policy)
    notes = []
    if replayed.overwritten:
        notes.append(
            f"the buffer had overwritten the first {replayed.overwritten:,} of {replayed.step:,} transitions; what it held "
            "is given from the first whole episode on"
        )
    if replayed.left_out:
        notes.append(f"{replayed.left_out:,} transitions of episodes without a beginning or an end were left out")
    size = collecting.size
    if size is not None and size > replayed.data.size:
        notes.append(f"the buffer holds {replayed.data.size:,} transitions, fewer than the {size:,} asked for")
    return replayed.data.part(0, replayed.data.size if size is None else size), notes


def _about(collecting: Collecting, policy: Policy | None, spec: Spec) -> dict[str, Any]:
    """How the data was made, and what the environment's spaces are."""
    about = {
        name: value
        for name, value in dataclasses.asdict(collecting).items()
        if name not in ("env", "noise", "num_envs")
    }
    about |= {"noise": collecting.noise} if collecting.kind == "noisy" else {}
    about |= {
        name: None if space is None else dataclasses.asdict(space)
        for name, space in (("observation_space", spec.observation_space), ("action_space", spec.action_space))
    }
    about |= {
        "horizon": spec.horizon,
        "random_numbers": f"{jax.random.key_impl(jax.random.key(0))}, jax {jax.__version__}",
    }
    if policy is not None:
        about |= {"policy_seed": policy.seed, "policy_step": policy.step, "expert_return": None}
        assert collecting.policy is not None
        about["expert_return"] = best_evaluation(Path(collecting.policy), policy)
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in about.items() if value is not None
    }


def best_evaluation(folder: Path, policy: Policy) -> float | None:
    """The largest mean return of an evaluation of that seed in a run, or None where the folder is no run's."""
    try:
        rows = read_csv(folder / "eval.csv")
    except CheckpointError:
        return None
    own = {"seed": float(policy.seed)} | policy.variant
    means = [float(row["return_mean"]) for row in rows if all(row.get(key) == value for key, value in own.items())]
    return max((mean for mean in means if math.isfinite(mean)), default=None)
