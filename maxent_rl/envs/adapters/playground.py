"""MuJoCo Playground's environments as device environments, on MJX's pure-JAX physics.

Source: MuJoCo Playground (the `playground` package, an optional extra). Its wrappers are left out: time limits, resets
and episode boundaries are the business of `device.step_batch`.
"""

from __future__ import annotations

import dataclasses
import functools
import subprocess
from collections.abc import Mapping
from typing import Any

import jax

from maxent_rl.envs.adapters.brax import Loaded, probe, reset_state, step_state
from maxent_rl.envs.adapters.mujoco_log import quiet_import, quiet_mujoco
from maxent_rl.errors import InvalidSettingError, MissingDependencyError, unknown_name
from maxent_rl.types import Array, PyTree, Spec


def make_playground(name: str) -> PlaygroundEnv:
    """Makes a MuJoCo Playground environment.

    The DeepMind Control Suite tasks ("CheetahRun") need nothing more. The locomotion and manipulation tasks need robot
    models that Playground itself clones with git from GitHub (mujoco_menagerie, into its own package folder) the first
    time that one of them is made.

    Args:
      name: Playground's name of it, which is what follows `playground/`: "CheetahRun".

    Returns:
      The environment; its horizon is the `episode_length` of Playground's configuration.

    Raises:
      MissingDependencyError: Playground is not installed, or the robot models cannot be fetched.
      UnknownNameError: Playground has no such environment.
      IncompatibleEnvironmentError: the environment does not run with the installed versions, or its observation is
        neither one flat array nor a dictionary with a flat "state".
    """
    _load(name)
    return PlaygroundEnv(name, int(_registry().get_default_config(name).episode_length))


@dataclasses.dataclass(frozen=True)
class PlaygroundEnv:
    """A Playground environment; equal and of equal hash for equal fields, so that it can be a static argument of `jit`.

    Where Playground observes a dictionary, the agent sees its "state", as the policies of Playground's own examples do;
    "privileged_state", meant for critics alone, is left out. A configuration's `action_repeat` is not applied: it is
    done by Playground's training wrapper, and is 1 for all but two manipulation tasks.

    Attributes:
      name: Playground's name of the environment.
      horizon: steps after which `device.step_batch` truncates an episode.
    """

    name: str
    horizon: int

    def __post_init__(self) -> None:
        """Refuses at once what cannot run."""
        if self.horizon < 1:
            raise InvalidSettingError(f"The horizon must be at least 1, got {self.horizon}.")
        _load(self.name)

    @property
    def spec(self) -> Spec:
        """Shapes and horizon."""
        loaded = _load(self.name)
        return Spec((loaded.observation_size,), (loaded.action_size,), self.horizon)

    def reset(self, key: Array) -> tuple[PyTree, Array]:
        """Starts an episode; the state is Playground's `State`. As `DeviceEnv.reset`."""
        state = reset_state(_load(self.name).env, key)
        return state, _observation(state)

    def step(self, state: PyTree, action: Array) -> tuple[PyTree, Array, Array, Array]:
        """Takes one step. As `DeviceEnv.step`."""
        state = step_state(_load(self.name).env, state, action)
        return state, _observation(state), state.reward, state.done.astype(bool)


def _observation(state: Any) -> Any:
    observation = state.obs
    if isinstance(observation, Mapping) and "state" in observation:
        return observation["state"]
    return observation


@functools.cache
def _load(name: str) -> Loaded:
    registry = _registry()
    if name not in registry.ALL_ENVS:
        known = (f"playground/{candidate}" for candidate in registry.ALL_ENVS)
        raise unknown_name("environment", f"playground/{name}", known)
    # Playground's default physics, 'warp', needs an NVIDIA GPU; 'jax' is the same pure-JAX program on every device.
    overrides = {"impl": "jax"} if "impl" in registry.get_default_config(name) else None
    # A first use inside a traced function would otherwise store that trace's values in the cache.
    with quiet_import(), jax.ensure_compile_time_eval():
        try:
            env = registry.load(name, config_overrides=overrides)
        except (subprocess.CalledProcessError, OSError) as error:
            raise MissingDependencyError(
                f"playground/{name} needs robot models that Playground clones from GitHub with git on first use, and "
                f"that failed: {str(error).rstrip('.')}."
            ) from error
    return probe(env, f"playground/{name}", _observation)


def _registry() -> Any:
    quiet_mujoco()
    try:
        with quiet_import():
            from mujoco_playground import registry
    except ImportError as error:
        raise MissingDependencyError(
            f'MuJoCo Playground is not installed ({error}). Install it with: pip install "maxent_rl[playground]".'
        ) from error
    return registry
