"""Evaluation apart from training: own environments, the most likely actions (or sampled ones), own random numbers.

The start states of an evaluation follow from (seed, environment step, episode) alone: how often one evaluates changes
neither the training nor what any one evaluation finds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from numpy.typing import NDArray

from maxent_rl.agents.base import Agent, Remembers, remember
from maxent_rl.agents.programs import program_of_agent
from maxent_rl.envs.device import DeviceEnv, reset_within, step_within
from maxent_rl.envs.env import Env
from maxent_rl.envs.host import Bools, Floats, HostEnvs, HostSource
from maxent_rl.errors import NonFiniteError
from maxent_rl.playing.choosing import Choose, choose_actions, most_likely, sampled_action
from maxent_rl.playing.opening import check_episodes, open_environment
from maxent_rl.playing.size import check_episodes_fit
from maxent_rl.runs.policy import Policy
from maxent_rl.seeds.mesh import SAME, SEEDS, over_seeds, sharded, spread
from maxent_rl.seeds.streams import EVALUATION, environment_seed
from maxent_rl.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What one seed's evaluation gave.

    Attributes:
      returns: undiscounted return of every episode.
      lengths: steps of every episode.
      extra: what else was measured, by the name of its column.
    """

    returns: list[float]
    lengths: list[int]
    extra: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    def row(self, seed: int) -> dict[str, float | int | str]:
        """The line of eval.csv: mean, spread (population standard deviation), extremes, and every episode."""
        return {
            "seed": seed,
            "return_mean": self.mean,
            "return_std": float(np.std(self.returns)),
            "return_min": min(self.returns),
            "return_max": max(self.returns),
            "length_mean": float(np.mean(self.lengths)),
            **self.extra,
            "returns": " ".join(map(repr, self.returns)),
            "lengths": " ".join(map(str, self.lengths)),
        }


def evaluate_policy(
    policy: Policy,
    episodes: int = 10,
    *,
    seed: int = 0,
    stochastic: bool = False,
    env: Env | None = None,
    num_envs: int | None = None,
) -> Outcomes:
    """Plays episodes of an exported policy.

    All policies meet the same start states under the same `seed`, and one policy's numbers do not depend on which others
    are evaluated.

    Args:
      policy: as from `load_policy`.
      episodes: how many.
      seed: decides the start states, and the actions where they are sampled.
      stochastic: sample the actions instead of taking the most likely ones.
      env: the environment, where it was not trained on one with a name.
      num_envs: host environments that are open at once, on which no number depends; None for as many as there are episodes, 64
        at most, and for one where `env` is a function.

    Raises:
      InvalidSettingError: fewer than one episode, or a negative seed.
      TooLargeError: more episodes than memory holds.
      UnknownNameError: there is no environment of that name.
      IncompatibleEnvironmentError: the environment's shapes are not those that the policy was trained on.
      MissingDependencyError: a package that the environment needs is not installed.
      NonFiniteError: the environment gave NaN or infinity.
    """
    check_episodes(episodes, seed)
    source = open_environment(policy, env, num_envs)
    check_episodes_fit(policy.agent, policy.state, source, episodes)
    states = jax.tree.map(lambda leaf: leaf[None], policy.state)
    keys = jax.random.key(seed)[None]
    if callable(source):
        return evaluate_host(policy.agent, states, (seed,), 0, episodes, source, keys if stochastic else None)[0]
    found = evaluate_device(policy.agent, states, keys, 0, episodes, source, sampled=stochastic)[0]
    if not np.isfinite(found.returns).all():
        raise NonFiniteError(f"{policy.env} gave NaN or infinity as a reward in this evaluation.")
    return found


def evaluate_host(
    agent: Agent[Any],
    states: PyTree,
    seeds: tuple[int, ...],
    step: int,
    episodes: int,
    make_envs: Callable[[list[int]], HostEnvs],
    keys: Array | None = None,
) -> list[Outcomes]:
    """Plays episodes of all seeds side by side in new host environments.

    Args:
      agent: the agent.
      states: agent states with leading axis [seed].
      seeds: their seeds.
      step: environment step of the training, part of the environments' seeds.
      episodes: episodes for each seed.
      make_envs: builds environments from one seed for each; a `HostSource` says how many of each seed at once.
      keys: [seed] root keys to sample actions with; None for the most likely actions.
    """
    choose = most_likely if keys is None else sampled_action
    total, length = np.zeros(len(seeds) * episodes), np.zeros(len(seeds) * episodes, np.int64)
    success = np.full(len(seeds) * episodes, np.nan)
    for played in play_host(agent, states, seeds, step, episodes, make_envs, keys, choose):
        total[played.episode] += np.where(played.running, played.reward, 0.0)
        length[played.episode] += played.running
        if played.success is not None:
            success[played.episode] = np.where(played.running, played.success, success[played.episode])
    parts = [slice(first, first + episodes) for first in range(0, len(total), episodes)]
    return [Outcomes(total[part].tolist(), length[part].tolist(), _success_rate(success[part])) for part in parts]


def _success_rate(success: NDArray[np.float64]) -> dict[str, float]:
    """The share of episodes [N] that were solved, as a column of eval.csv; no column where none told in its last step."""
    told = success[~np.isnan(success)]
    return {"success_rate": float(told.mean())} if told.size else {}


class HostPlay(NamedTuple):
    """One step of the N episodes that are played side by side, seed-major.

    Attributes:
      episode: [N] which of all episodes of all seeds, counted seed by seed, each is.
      running: [N] whether the episode had not ended before this step; what follows counts only where it had not.
      observation: [N, observation] before the action.
      action: [N, action].
      notes: of `Choose`, a pytree of [seed, N / seeds, ...].
      reward: [N].
      next_observation: [N, observation] the true one after the action.
      terminated: [N] whether a terminal state ended the episode.
      success: [N] as of `HostStep`.
    """

    episode: NDArray[np.int64]
    running: Bools
    observation: Floats
    action: Floats
    notes: PyTree
    reward: Floats
    next_observation: Floats
    terminated: Bools
    success: Floats | None


def play_host(
    agent: Agent[Any],
    states: PyTree,
    seeds: tuple[int, ...],
    step: int,
    episodes: int,
    make_envs: Callable[[list[int]], HostEnvs],
    keys: Array | None,
    choose: Choose,
) -> Iterator[HostPlay]:
    """Plays episodes in new host environments, so many side by side as may be open, until all have ended.

    Arguments are those of `evaluate_host`. What is played depends neither on how many are side by side nor on their company:
    actions are chosen, and their random numbers drawn, for all episodes at once, whichever of them are just played.
    """
    width = min(make_envs.side_by_side if isinstance(make_envs, HostSource) else episodes, episodes)
    envs: HostEnvs | None = None
    try:
        for first in range(0, episodes, width):
            part = slice(first, min(first + width, episodes))
            numbers = range(part.start, part.stop)
            starts = [environment_seed(seed, EVALUATION, step, number) for seed in seeds for number in numbers]
            if envs is None:
                envs = make_envs(starts)
                observation = envs.reset()
            else:  # the same ones, as opening them may be dear
                observation = envs.reset(starts)
            yield from _play_part(agent, states, (len(seeds), episodes), part, envs, observation, keys, choose)
    finally:
        if envs is not None:
            envs.close()


def _play_part(
    agent: Agent[Any],
    states: PyTree,
    shape: tuple[int, int],
    part: slice,
    envs: HostEnvs,
    observation: Floats,
    keys: Array | None,
    choose: Choose,
) -> Iterator[HostPlay]:
    """Plays a part of the [seed, episode] episodes, one in each environment, from its first observation."""
    episode = np.arange(shape[0] * shape[1]).reshape(shape)[:, part].ravel()
    running, elapsed = np.ones(envs.num_envs, bool), np.int32(0)
    memory = _start_memory(agent, states, shape[1])

    def among_all(values: NDArray[Any]) -> NDArray[Any]:
        """[N, ...] of this part as [seed, episode, ...] of all."""
        rows = values.reshape(shape[0], part.stop - part.start, *values.shape[1:])
        if rows.shape[:2] == shape:
            return rows
        whole = np.zeros((*shape, *rows.shape[2:]), rows.dtype)
        whole[:, part] = rows
        return whole

    while running.any():
        seen = among_all(observation)
        chosen, notes = choose_actions(agent, states, memory, seen, keys, elapsed, choose)
        action = np.asarray(chosen)[:, part]
        action = action.reshape(envs.num_envs, *action.shape[2:])
        if envs.num_envs < shape[0] * shape[1]:
            notes = jax.tree.map(lambda leaf: np.asarray(leaf)[:, part], notes)
        elapsed += 1
        result = envs.step(action)
        yield HostPlay(
            *(episode, running, observation, action, notes),
            *(result.reward, result.next_observation, result.terminated, result.success),
        )
        if isinstance(agent, Remembers):
            memory = _remember(agent, states, memory, seen, chosen, among_all(result.reward))
        running = running & ~(result.terminated | result.truncated)
        observation = result.observation


@program_of_agent("episodes")
def _start_memory(agent: Agent[Any], states: PyTree, episodes: int) -> PyTree:
    """The memory [seed, env, ...] of episodes that start."""
    if not isinstance(agent, Remembers):
        return ()  # whatever the state: that of an agent that needs none has no seeds to map over
    return over_seeds(lambda agent, state: agent.memory(state, (episodes,)), agent, states)


@program_of_agent()
def _remember(
    agent: Agent[Any], states: PyTree, memory: PyTree, observation: Array, action: Array, reward: Array
) -> PyTree:
    """The memory [seed, env, ...] after a step of all episodes."""
    return over_seeds(remember, agent, states, memory, observation, action, reward)


def evaluate_device(
    agent: Agent[Any],
    states: PyTree,
    keys: Array,
    step: int,
    episodes: int,
    env: DeviceEnv,
    mesh: Mesh | None = None,
    *,
    sampled: bool = False,
) -> list[Outcomes]:
    """Plays episodes of all seeds side by side on the device.

    Args:
      agent: the agent.
      states: agent states with leading axis [seed].
      keys: [seed] root keys.
      step: environment step of the training, part of the environments' keys.
      episodes: episodes for each seed.
      env: the environment.
      mesh: of the devices that share the seeds (`seeds.mesh.make_mesh`); None for one alone.
      sampled: draw the actions instead of taking the most likely ones.
    """
    choose = sampled_action if sampled else most_likely
    returns, lengths = _play(agent, states, keys, np.int32(step), episodes, env, mesh, choose)
    return [Outcomes(r.tolist(), n.tolist()) for r, n in zip(np.asarray(returns), np.asarray(lengths), strict=True)]


class DevicePlay(NamedTuple):
    """Episodes of all seeds in play on the device.

    Attributes:
      inner: the environments' states.
      observation: [seed, env, observation] from which the next action is chosen.
      total: [seed, env] undiscounted return so far.
      length: [seed, env] int32 steps so far.
      elapsed: [] int32 steps of those that still run.
      running: [seed, env] which those are.
      memory: what the agent remembers of its episodes, a pytree of [seed, env, ...]; () where it does not.
    """

    inner: PyTree
    observation: Array
    total: Array
    length: Array
    elapsed: Array
    running: Array
    memory: PyTree


def start_keys(key: Array, step: Array, episodes: int) -> Array:
    """[episodes] random keys of the episodes' starts, from a root key [] and the environment step [] of the training."""
    return jax.random.split(jax.random.fold_in(jax.random.fold_in(key, EVALUATION), step), episodes)


def start_device(
    agent: Agent[Any], states: PyTree, keys: Array, step: Array, episodes: int, env: DeviceEnv
) -> DevicePlay:
    """Starts `episodes` episodes of each seed, from root keys [seed]."""
    starts = jax.vmap(lambda key: start_keys(key, step, episodes))(keys)
    inner, observation = jax.vmap(jax.vmap(partial(reset_within, env)))(starts)
    zeros = jnp.zeros(observation.shape[:2])
    running, memory = jnp.ones(zeros.shape, dtype=bool), _start_memory(agent, states, episodes)
    return DevicePlay(inner, observation, zeros, zeros.astype(jnp.int32), jnp.int32(0), running, memory)


def advance_device(
    agent: Agent[Any], states: PyTree, keys: Array, play: DevicePlay, env: DeviceEnv, choose: Choose
) -> tuple[DevicePlay, tuple[Array, PyTree, Array]]:
    """One step of all episodes; with it the actions, the notes on them, and the rewards, each [seed, env, ...]."""
    action, notes = choose_actions(agent, states, play.memory, play.observation, keys, play.elapsed, choose)
    inner, observation, reward, terminated = jax.vmap(jax.vmap(partial(step_within, env)))(play.inner, action)
    total, length = play.total + jnp.where(play.running, reward, 0.0), play.length + play.running
    running = play.running & ~terminated
    memory = _remember(agent, states, play.memory, play.observation, action, reward)
    after = DevicePlay(inner, observation, total, length, play.elapsed + 1, running, memory)
    return after, (action, notes, reward)


@program_of_agent("episodes", "env", "mesh", "choose")
def _play(
    agent: Agent[Any],
    states: PyTree,
    keys: Array,
    step: Array,
    episodes: int,
    env: DeviceEnv,
    mesh: Mesh | None,
    choose: Choose,
) -> tuple[Array, Array]:
    def play(agent: Agent[Any], states: PyTree, keys: Array, step: Array) -> tuple[Array, Array]:
        def going(play: DevicePlay) -> Array:
            return jnp.logical_and(jnp.any(play.running), play.elapsed < env.spec.horizon)

        def advance(play: DevicePlay) -> DevicePlay:
            return advance_device(agent, states, keys, play, env, choose)[0]

        played = jax.lax.while_loop(going, advance, start_device(agent, states, keys, step, episodes, env))
        return played.total, played.length

    specs = (spread(agent), SEEDS, SEEDS, SAME), (SEEDS, SEEDS)
    run = sharded(mesh, play, *specs)
    found: tuple[Array, Array] = run(agent, states, keys, step)
    return found
