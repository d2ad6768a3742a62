"""Brax's environments as device environments.

Source: Brax - A Differentiable Physics Engine for Large Scale Rigid Body Simulation (the `brax` package, `brax.envs`).
Brax's own wrappers are left out: time limits, resets and episode boundaries are the business of `device.step_batch`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from maxent_rl.envs.adapters.mujoco_log import quiet_import, quiet_mujoco
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, unknown_name
from maxent_rl.types import Array, PyTree, Spec

BACKENDS = ("generalized", "mjx", "positional", "spring")

# Brax defaults to 'generalized'. 'spring' is the cheapest of the four to compile and to step (on CPU, halfcheetah:
# twice as fast or more); its step has no constraint solver and no matrix inverse, which should suit a GPU as well.
# Its physics differ from MuJoCo's, so returns are comparable only within one backend.
DEFAULT_BACKEND = "spring"


def make_brax(name: str, backend: str | None = None) -> BraxEnv:
    """Makes a Brax environment.

    Args:
      name: Brax's name of it, which is what follows `brax/`: "halfcheetah".
      backend: the physics: one of `BACKENDS`, or None for `DEFAULT_BACKEND`.

    Returns:
      The environment, with Brax's usual horizon of 1000 steps (`dataclasses.replace(env, horizon=...)` for another).

    Raises:
      UnknownNameError: Brax has no such environment or backend.
      InvalidSettingError: the environment does not support the backend.
      IncompatibleEnvironmentError: the environment does not run with the installed versions, or its observation is
        not one flat array.
    """
    return BraxEnv(name, DEFAULT_BACKEND if backend is None else backend)


class Loaded(NamedTuple):
    """A Brax-style environment and the sizes found by tracing it."""

    env: Any
    observation_size: int
    action_size: int


@dataclasses.dataclass(frozen=True)
class BraxEnv:
    """A Brax environment; equal and of equal hash for equal fields, so that it can be a static argument of `jit`.

    Actions go to Brax as they are. Brax's environments take [-1, 1]: those whose actuators have another range
    (humanoid 0.4, inverted_pendulum 3, pusher 2) rescale in their own `step`, so rescaling here would do it twice.

    Attributes:
      name: Brax's name of the environment.
      backend: the physics, one of `BACKENDS`.
      horizon: steps after which `device.step_batch` truncates an episode.
    """

    name: str
    backend: str = DEFAULT_BACKEND
    horizon: int = 1000

    def __post_init__(self) -> None:
        """Refuses at once what cannot run."""
        if self.horizon < 1:
            raise InvalidSettingError(f"The horizon must be at least 1, got {self.horizon}.")
        _load(self.name, self.backend)

    @property
    def spec(self) -> Spec:
        """Shapes and horizon."""
        loaded = _load(self.name, self.backend)
        return Spec((loaded.observation_size,), (loaded.action_size,), self.horizon)

    def reset(self, key: Array) -> tuple[PyTree, Array]:
        """Starts an episode; the state is Brax's `State`. As `DeviceEnv.reset`."""
        state = reset_state(_load(self.name, self.backend).env, key)
        return state, state.obs

    def step(self, state: PyTree, action: Array) -> tuple[PyTree, Array, Array, Array]:
        """Takes one step. As `DeviceEnv.step`."""
        state = step_state(_load(self.name, self.backend).env, state, action)
        return state, state.obs, state.reward, state.done.astype(bool)


def reset_state(env: Any, key: Array) -> Any:
    """Calls `env.reset` and gives every leaf of the state a definite type.

    Args:
      env: a Brax-style environment: its states have `obs`, `reward`, `done`, `metrics` and `info`.
      key: [] random key.

    Returns:
      The state; no leaf is weakly typed and the reward is float32.
    """
    state = jax.tree.map(lambda leaf: _as_type(leaf, jnp.asarray(leaf).dtype), env.reset(key))
    return state.replace(reward=_as_reward(state.reward))


def step_state(env: Any, state: Any, action: Array) -> Any:
    """Calls `env.step`; the new state has the structure, shapes and types of the old, as `scan` and `cond` need.

    Args:
      env: a Brax-style environment.
      state: what `reset_state` or `step_state` returned; left as it is.
      action: [action] in [-1, 1].

    Raises:
      TypeError, ValueError: (while tracing) the environment changes the form of its state on the way.
    """
    # Brax-style steps write metrics and info into the dictionaries of the state that they are given: hand them copies.
    following = env.step(jax.tree.map(lambda leaf: leaf, state), action)
    following = following.replace(reward=_as_reward(following.reward))
    return jax.tree.map(lambda new, old: _as_type(new, old.dtype), following, state)


def probe(env: Any, label: str, observe: Callable[[Any], Any]) -> Loaded:
    """Traces one reset and one step (nothing is compiled), to find faults before a run and the sizes that it needs.

    Args:
      env: a Brax-style environment.
      label: its name for messages.
      observe: takes a state to its observation.

    Raises:
      IncompatibleEnvironmentError: the environment fails, or its observation is not one flat array.
    """
    action_size = int(env.action_size)
    try:
        state = jax.eval_shape(lambda key: reset_state(env, key), jax.random.key(0))
        jax.eval_shape(lambda *inputs: step_state(env, *inputs), state, jnp.zeros(action_size))
    except Exception as error:  # whatever a foreign environment raises
        versions = ", ".join(f"{package} {metadata.version(package)}" for package in ("brax", "mujoco-mjx", "jax"))
        raise IncompatibleEnvironmentError(
            f"{label} does not run with the installed {versions}: {type(error).__name__}: {str(error).rstrip('.')}."
        ) from error
    observation = observe(state)
    if not hasattr(observation, "shape") or len(observation.shape) != 1:
        raise IncompatibleEnvironmentError(
            f"{label} must give its observation as one flat array, but gives "
            f"{jax.tree.map(lambda leaf: leaf.shape, observation)}."
        )
    return Loaded(env, observation.shape[0], action_size)


@functools.cache
def _load(name: str, backend: str) -> Loaded:
    quiet_mujoco()
    with quiet_import():
        import brax.envs
    known = brax.envs._envs
    if name not in known:
        raise unknown_name("environment", f"brax/{name}", (f"brax/{candidate}" for candidate in known))
    if backend not in BACKENDS:
        raise unknown_name("Brax backend", backend, BACKENDS)
    label = f"brax/{name} with backend {backend!r}"
    # A first use inside a traced function would otherwise store that trace's values in the cache.
    with quiet_import(), jax.ensure_compile_time_eval():
        try:
            env = brax.envs.get_environment(name, backend=backend)
        except (ValueError, NotImplementedError) as error:
            others = ", ".join(other for other in BACKENDS if other != backend and _runs(name, other))
            advice = f"Choose one of: {others}." if others else "No other backend runs it with the installed versions."
            raise InvalidSettingError(f"brax/{name} does not support the backend {backend!r}. {advice}") from error
    return probe(env, label, lambda state: state.obs)


def _runs(name: str, backend: str) -> bool:
    import brax.envs

    try:
        probe(brax.envs.get_environment(name, backend=backend), name, lambda state: state.obs)
    except (ValueError, NotImplementedError):
        return False
    return True


def _as_reward(reward: Any) -> Array:
    return jax.lax.convert_element_type(jnp.asarray(reward), jnp.float32)


def _as_type(leaf: Any, dtype: Any) -> Array:
    array: Array = jnp.asarray(leaf)
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return array
    if jnp.promote_types(array.dtype, dtype) != dtype:
        raise TypeError(f"a value of the state changed its type from {dtype} to {array.dtype}")
    return jax.lax.convert_element_type(array, dtype)  # also makes a weak type a definite one
