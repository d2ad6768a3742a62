"""Evaluation apart from training: own environments, the most likely actions, own random numbers.

The start states of an evaluation follow from (seed, environment step, episode) alone: how often one evaluates changes
neither the training nor what any one evaluation finds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.envs.device import DeviceEnv
from maxent_rl.envs.host import HostEnvs
from maxent_rl.training.learner import EVALUATION, SAME, SEEDS, Learning, sharded
from maxent_rl.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What one seed's evaluation gave.

    Attributes:
      returns: undiscounted return of every episode.
      lengths: steps of every episode.
    """

    returns: list[float]
    lengths: list[int]

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
            "returns": " ".join(map(repr, self.returns)),
            "lengths": " ".join(map(str, self.lengths)),
        }


def environment_seed(seed: int, stream: int, *numbers: int) -> int:
    """A 32-bit seed for a host environment that is independent between streams and their numbers."""
    return int(np.random.SeedSequence([seed, stream, *numbers]).generate_state(1)[0])


def evaluate_host(
    agent: Any,
    states: PyTree,
    seeds: tuple[int, ...],
    step: int,
    episodes: int,
    make_envs: Callable[[list[int]], HostEnvs],
) -> list[Outcomes]:
    """Plays episodes of all seeds side by side in new host environments.

    Args:
      agent: the agent.
      states: agent states with leading axis [seed].
      seeds: their seeds.
      step: environment step of the training, part of the environments' seeds.
      episodes: episodes for each seed.
      make_envs: builds environments from one seed for each.
    """
    envs = make_envs([environment_seed(seed, EVALUATION, step, index) for seed in seeds for index in range(episodes)])
    try:
        observation = envs.reset()
        total, length = np.zeros(envs.num_envs), np.zeros(envs.num_envs, np.int64)
        running = np.ones(envs.num_envs, bool)
        while running.any():
            action = np.asarray(_modes(agent, states, observation.reshape(len(seeds), episodes, -1)))
            result = envs.step(action.reshape(envs.num_envs, *action.shape[2:]))
            total += np.where(running, result.reward, 0.0)
            length += running
            running &= ~(result.terminated | result.truncated)
            observation = result.observation
    finally:
        envs.close()
    return [
        Outcomes(total[first : first + episodes].tolist(), length[first : first + episodes].tolist())
        for first in range(0, envs.num_envs, episodes)
    ]


@jax.jit
def _modes(agent: Any, states: PyTree, observation: Array) -> Array:
    """[seed, env, observation] to [seed, env, action]."""
    action: Array = jax.vmap(agent.mode)(states, observation)
    return action


def evaluate_device(
    agent: Any, states: PyTree, keys: Array, step: int, episodes: int, env: DeviceEnv, learning: Learning
) -> list[Outcomes]:
    """Plays episodes of all seeds side by side on the device.

    Args:
      agent: the agent.
      states: agent states with leading axis [seed].
      keys: [seed] root keys.
      step: environment step of the training, part of the environments' keys.
      episodes: episodes for each seed.
      env: the environment.
      learning: the static side.
    """
    returns, lengths = _play(agent, states, keys, np.int32(step), episodes, env, learning)
    return [Outcomes(r.tolist(), n.tolist()) for r, n in zip(np.asarray(returns), np.asarray(lengths), strict=True)]


@partial(jax.jit, static_argnames=("episodes", "env", "learning"))
def _play(
    agent: Any, states: PyTree, keys: Array, step: Array, episodes: int, env: DeviceEnv, learning: Learning
) -> tuple[Array, Array]:
    def play(agent: Any, states: PyTree, keys: Array, step: Array) -> tuple[Array, Array]:
        def start(key: Array) -> Array:
            return jax.random.split(jax.random.fold_in(jax.random.fold_in(key, EVALUATION), step), episodes)

        inner, observation = jax.vmap(jax.vmap(env.reset))(jax.vmap(start)(keys))
        shape = observation.shape[:2]

        def going(carry: tuple[Any, ...]) -> Array:
            return jnp.logical_and(jnp.any(carry[-1]), carry[-2] < env.spec.horizon)

        def advance(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            inner, observation, total, length, elapsed, running = carry
            action = jax.vmap(agent.mode)(states, observation)
            inner, observation, reward, terminated = jax.vmap(jax.vmap(env.step))(inner, action)
            total, length = total + jnp.where(running, reward, 0.0), length + running
            return inner, observation, total, length, elapsed + 1, running & ~terminated.astype(bool)

        zeros = jnp.zeros(shape)
        carry = (inner, observation, zeros, zeros.astype(jnp.int32), jnp.int32(0), jnp.ones(shape, bool))
        _, _, total, length, _, _ = jax.lax.while_loop(going, advance, carry)
        return total, length

    found: tuple[Array, Array] = sharded(learning, play, (SAME, SEEDS, SEEDS, SAME), (SEEDS, SEEDS))(
        agent, states, keys, step
    )
    return found
