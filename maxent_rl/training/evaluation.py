"""Evaluation apart from training: own environments, the most likely actions (or sampled ones), own random numbers.

The start states of an evaluation follow from (seed, environment step, episode) alone: how often one evaluates changes
neither the training nor what any one evaluation finds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.envs.device import DeviceEnv, step_within
from maxent_rl.envs.host import HostEnvs
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, NonFiniteError
from maxent_rl.training.learner import EVALUATION, Learning, over_seeds
from maxent_rl.training.sharding import SAME, SEEDS, sharded, spread
from maxent_rl.types import Array, PyTree, Spec

if TYPE_CHECKING:
    from maxent_rl.training.loop import Env
    from maxent_rl.training.policy import Policy

# A stream of random numbers for sampled actions, beside those of `learner`, which count up from 0.
_SAMPLES = 2**31 - 1


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


def evaluate_policy(
    policy: Policy, episodes: int = 10, *, seed: int = 0, stochastic: bool = False, env: Env | None = None
) -> Outcomes:
    """Plays episodes of an exported policy.

    All policies meet the same start states under the same `seed`, and one policy's numbers do not depend on which others
    are evaluated.

    Args:
      policy: as from `load_policy`.
      episodes: how many, side by side.
      seed: decides the start states, and the actions where they are sampled.
      stochastic: sample the actions instead of taking the most likely ones.
      env: the environment, where it was not trained on one with a name.

    Raises:
      InvalidSettingError: fewer than one episode, or a negative seed.
      UnknownNameError: there is no environment of that name.
      IncompatibleEnvironmentError: the environment's shapes are not those that the policy was trained on.
      MissingDependencyError: a package that the environment needs is not installed.
      NonFiniteError: the environment gave NaN or infinity.
    """
    from maxent_rl import envs as environments

    if episodes < 1 or seed < 0:
        raise InvalidSettingError(f"Expected at least 1 episode and a seed from 0, got {episodes} and {seed}.")
    source = policy.env if env is None else env
    states = jax.tree.map(lambda leaf: leaf[None], policy.state)
    keys = jax.random.key(seed)[None]
    if environments.is_device(source) if isinstance(source, str) else not callable(source):
        device_env = environments.make_device(source, policy.backend) if isinstance(source, str) else source
        assert not callable(device_env)
        check_spec(policy, device_env.spec)
        found = evaluate_device(policy.agent, states, keys, 0, episodes, device_env, sampled=stochastic)[0]
        if not np.isfinite(found.returns).all():
            raise NonFiniteError(f"{policy.env} gave NaN or infinity as a reward in this evaluation.")
        return found
    assert isinstance(source, str) or callable(source)

    def make_envs(seeds: list[int]) -> HostEnvs:
        envs = environments.make_host(source, seeds)
        check_spec(policy, envs.spec)
        return envs

    return evaluate_host(policy.agent, states, (seed,), 0, episodes, make_envs, keys if stochastic else None)[0]


def check_spec(policy: Policy, spec: Spec) -> None:
    """Refuses an environment other than the one that a policy was trained on, as far as shapes tell.

    Raises:
      IncompatibleEnvironmentError: saying both shapes.
    """
    trained, found = _shapes(policy.spec), _shapes(spec)
    if trained != found:
        raise IncompatibleEnvironmentError(f"The policy was trained on {trained}; {policy.env} now has {found}.")


def _shapes(spec: Spec) -> str:
    actions = f"actions {spec.action_shape}" if spec.num_actions is None else f"{spec.num_actions} actions"
    return f"observations {spec.observation_shape} and {actions}"


def evaluate_host(
    agent: Any,
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
      make_envs: builds environments from one seed for each.
      keys: [seed] root keys to sample actions with; None for the most likely actions.
    """
    envs = make_envs([environment_seed(seed, EVALUATION, step, index) for seed in seeds for index in range(episodes)])
    try:
        observation = envs.reset()
        total, length = np.zeros(envs.num_envs), np.zeros(envs.num_envs, np.int64)
        running, elapsed = np.ones(envs.num_envs, bool), np.int32(0)
        while running.any():
            seen = observation.reshape(len(seeds), episodes, -1)
            chosen = _modes(agent, states, seen) if keys is None else _samples(agent, states, seen, keys, elapsed)
            action = np.asarray(chosen)
            elapsed += 1
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
    action: Array = over_seeds(lambda agent, *seen: agent.mode(*seen), agent, states, observation)
    return action


@jax.jit
def _samples(agent: Any, states: PyTree, observation: Array, keys: Array, elapsed: Array) -> Array:
    """As `_modes`, with actions drawn from the policies."""

    def draw(key: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(key, _SAMPLES), elapsed)

    drawn = jax.vmap(draw)(keys)
    action: Array = over_seeds(lambda agent, *seen: agent.act(*seen), agent, states, observation, drawn)
    return action


def evaluate_device(
    agent: Any,
    states: PyTree,
    keys: Array,
    step: int,
    episodes: int,
    env: DeviceEnv,
    learning: Learning | None = None,
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
      learning: the static side, where seeds are shared among devices.
      sampled: draw the actions instead of taking the most likely ones.
    """
    returns, lengths = _play(agent, states, keys, np.int32(step), episodes, env, learning, sampled)
    return [Outcomes(r.tolist(), n.tolist()) for r, n in zip(np.asarray(returns), np.asarray(lengths), strict=True)]


@partial(jax.jit, static_argnames=("episodes", "env", "learning", "sampled"))
def _play(
    agent: Any,
    states: PyTree,
    keys: Array,
    step: Array,
    episodes: int,
    env: DeviceEnv,
    learning: Learning | None,
    sampled: bool,
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
            chosen = (
                _samples(agent, states, observation, keys, elapsed) if sampled else _modes(agent, states, observation)
            )
            inner, observation, reward, terminated = jax.vmap(jax.vmap(partial(step_within, env)))(inner, chosen)
            total, length = total + jnp.where(running, reward, 0.0), length + running
            return inner, observation, total, length, elapsed + 1, running & ~terminated.astype(bool)

        zeros = jnp.zeros(shape)
        carry = (inner, observation, zeros, zeros.astype(jnp.int32), jnp.int32(0), jnp.ones(shape, bool))
        _, _, total, length, _, _ = jax.lax.while_loop(going, advance, carry)
        return total, length

    specs = (spread(agent), SEEDS, SEEDS, SAME), (SEEDS, SEEDS)
    run = play if learning is None else sharded(learning.mesh, play, *specs)
    found: tuple[Array, Array] = run(agent, states, keys, step)
    return found
