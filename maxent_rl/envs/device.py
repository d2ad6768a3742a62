"""What a device environment is: pure JAX functions, stepped inside the jitted loop.

A `DeviceEnv` describes one environment. `reset_batch` and `step_batch` run many, with time limits, automatic reset and
episode boundaries kept apart, so that an adapter (Brax, Playground, one's own) need only know its own dynamics.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from maxent_rl.types import Array, PyTree, Spec


class DeviceEnv(Protocol):
    """One environment as two pure functions. Must be hashable: loops take it as a static argument.

    What others may have written looser (`door.admit` says how far) is made this by `reset_within` and `step_within`, through
    which loops and evaluation call it.
    """

    @property
    def spec(self) -> Spec:
        """Shapes and horizon."""
        ...

    def reset(self, key: Array) -> tuple[PyTree, Array]:
        """Starts an episode.

        Args:
          key: [] random key.

        Returns:
          (state, observation [observation]); the state is a pytree and carries all randomness of the episode.
        """
        ...

    def step(self, state: PyTree, action: Array) -> tuple[PyTree, Array, Array, Array]:
        """Takes one step; time limits are not the environment's business (`Spec.horizon` is).

        Args:
          state: what `reset` or `step` returned.
          action: [action] in [-1, 1], or int32 from 0 for a discrete one [] or a sequence of them [length]; `step_within`
            sees to that.

        Returns:
          (state, observation [observation], reward [], terminated [] bool).
        """
        ...


@runtime_checkable
class PaysForGoals(Protocol):
    """A device environment that observes goals (a Dict as its `Spec.observation_space`) and says what each of them pays."""

    def compute_reward(self, achieved: Array, desired: Array) -> Array:
        """[...] rewards of steps that reached `achieved` [..., goal] and wanted `desired` [..., goal]."""
        ...

    def compute_terminated(self, achieved: Array, desired: Array) -> Array:
        """[...] bool, whether that ends the episode in a terminal state."""
        ...


@struct.dataclass
class EnvState:
    """The state of a batch of environments with leading axes [seed, env].

    Attributes:
      inner: the environments' own states.
      observation: [seed, env, observation] from which the next action is chosen.
      elapsed: [seed, env] int32 steps taken in the running episode.
      episode: [seed, env] int32 episodes started before this one.
      key: [seed, env] random key of each environment; episode n starts from `fold_in(key, n)`.
    """

    inner: PyTree
    observation: Array
    elapsed: Array
    episode: Array
    key: Array


class DeviceStep(NamedTuple):
    """What one step of [seed, env] environments gives; fields as in `HostStep`, flags as bool arrays."""

    next_observation: Array
    reward: Array
    terminated: Array
    truncated: Array


def reset_within(env: DeviceEnv, key: Array) -> tuple[PyTree, Array]:
    """`env.reset`, for one environment: a state of definite types, and a flat observation [observation] float32."""
    return settled_reset(env.spec, *env.reset(key))


def step_within(env: DeviceEnv, state: PyTree, action: Array) -> tuple[PyTree, Array, Array, Array]:
    """`env.step`, for one environment, with an action that may lie outside the box or have passed through floats.

    Returns:
      (state of the types it had, observation [observation] float32, reward [] float32, terminated [] bool).
    """
    spec = env.spec
    return settled_step(spec, state, *env.step(state, within(spec, action)))


def within(spec: Spec, action: Array) -> Array:
    """An action [action] as environments take it: in [-1, 1], or int32."""
    return jnp.clip(action, -1.0, 1.0) if spec.is_continuous else action.astype(jnp.int32)


def settled_reset(spec: Spec, state: PyTree, observation: Array) -> tuple[PyTree, Array]:
    """What `reset` gave, in the types that loops carry."""
    return jax.tree.map(lambda leaf: _as_type(leaf, jnp.asarray(leaf).dtype), state), _as_vector(spec, observation)


def settled_step(
    spec: Spec, before: PyTree, state: PyTree, observation: Array, reward: Array, terminated: Array
) -> tuple[PyTree, Array, Array, Array]:
    """What `step` gave, in the types that loops carry; those of the state are the ones that it had `before`."""
    flags, settled = _as_type(terminated, jnp.bool_), jax.tree.map(_as_before, state, before)
    return settled, _as_vector(spec, observation), _as_type(reward, jnp.float32), flags


def keeps_type(new: Array, old: Array) -> bool:
    """Whether a value has another's type, as Python's numbers have where it is of their kind."""
    array = jnp.asarray(new)
    gives_way = bool(getattr(array, "weak_type", False)) and jnp.promote_types(array.dtype, old.dtype) == old.dtype
    return array.dtype == old.dtype or gives_way


def _as_before(new: Array, old: Array) -> Array:
    return _as_type(new, old.dtype) if keeps_type(new, old) else new  # which JAX refuses


def _as_vector(spec: Spec, observation: Array) -> Array:
    """[observation] float32, by the rule of `spaces`."""
    array = _as_type(observation, jnp.float32)
    if spec.observation_space is not None and spec.observation_space.channels_first:
        array = jnp.moveaxis(array, -3, -1)
    return array if array.ndim == 1 else array.ravel()


def _as_type(leaf: Array, dtype: Any) -> Array:
    array: Array = jnp.asarray(leaf)
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return array
    return jax.lax.convert_element_type(array, dtype)  # also makes a weak type a definite one


def reset_batch(env: DeviceEnv, keys: Array, staggered: bool = False) -> EnvState:
    """Starts the first episode of every environment.

    Args:
      env: the environment.
      keys: [seed, env] random keys; each environment's later episodes derive from its own.
      staggered: the first episodes have less time, by shares of the horizon that lie evenly apart, so that those which only
        time ends do not end together, then or later.
    """
    episode = jnp.zeros(keys.shape, jnp.int32)
    inner, observation = _reset(env, keys, episode)
    elapsed = jnp.zeros_like(episode)
    if staggered:
        count = keys.shape[-1]
        elapsed += np.array([env.spec.horizon * index // count for index in range(count)], np.int32)
    return EnvState(inner=inner, observation=observation, elapsed=elapsed, episode=episode, key=keys)


def step_batch(env: DeviceEnv, state: EnvState, action: Array) -> tuple[EnvState, DeviceStep]:
    """Steps every environment, cuts episodes at the horizon, and starts new ones where one ended.

    Every new episode starts from a fresh random state. The reset runs only in steps in which some episode ended: it
    stands behind a `cond` outside all vmaps, because under vmap both branches of a `cond` are computed.

    Args:
      env: the environment.
      state: of [seed, env] environments.
      action: [seed, env, action]; clipped to [-1, 1], or made whole numbers where the environment's are discrete.

    Returns:
      (state, step), each with leading [seed, env].
    """
    inner, observation, reward, terminated = jax.vmap(jax.vmap(partial(step_within, env)))(state.inner, action)
    elapsed = state.elapsed + 1
    truncated = (elapsed >= env.spec.horizon) & ~terminated
    done = terminated | truncated
    step = DeviceStep(observation, reward, terminated, truncated)
    after = EnvState(inner, observation, elapsed, state.episode, state.key)

    def restart(running: EnvState) -> EnvState:
        episode = running.episode + done
        fresh_inner, fresh_observation = _reset(env, running.key, episode)
        fresh = EnvState(fresh_inner, fresh_observation, jnp.zeros_like(elapsed), episode, running.key)
        restarted: EnvState = jax.tree.map(lambda new, old: _where(done, new, old), fresh, running)
        return restarted

    following: EnvState = jax.lax.cond(jnp.any(done), restart, lambda running: running, after)
    return following, step


def _reset(env: DeviceEnv, keys: Array, episode: Array) -> tuple[PyTree, Array]:
    def start(key: Array, number: Array) -> tuple[PyTree, Array]:
        return reset_within(env, jax.random.fold_in(key, number))

    return jax.vmap(jax.vmap(start))(keys, episode)


def _where(condition: Array, new: Array, old: Array) -> Array:
    extra = new.ndim - condition.ndim
    return jnp.where(condition.reshape(condition.shape + (1,) * extra), new, old)
