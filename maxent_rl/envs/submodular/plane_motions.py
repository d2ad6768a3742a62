"""How one moves in a plane of points: a point robot, and Brax's ant.

Source of the ant in a square: Submodular Reinforcement Learning (arXiv 2307.13372). The point robot is our own.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.adapters import brax as brax_envs
from maxent_rl.envs.adapters.mujoco_log import quiet_import, quiet_mujoco
from maxent_rl.errors import InvalidSettingError, unknown_name
from maxent_rl.types import Array, PyTree

Floats = NDArray[np.floating[Any]]


@dataclasses.dataclass(frozen=True)
class PointMass:
    """A point in the square [-edge, edge]^2 that starts in its middle; actions [2] are velocities, and walls stop it.

    Attributes:
      edge: half the side of the square.
      speed: distance along each axis that an action of 1 moves in a step.
    """

    edge: float
    speed: float

    def __post_init__(self) -> None:
        """Refuses a square without an inside, and a point that cannot move."""
        _refuse_edge(self.edge)
        if not 0 < self.speed < np.inf:
            raise InvalidSettingError(f"The speed must be above 0 and finite, got {self.speed:g}.")

    @property
    def observation_size(self) -> int:
        """The position."""
        return 2

    @property
    def action_size(self) -> int:
        """The velocity."""
        return 2

    @property
    def num_actions(self) -> None:
        """Actions are continuous."""
        return None

    @property
    def visits_start(self) -> bool:
        """A trajectory begins in the middle."""
        return True

    def reset(self, key: Array) -> Array:
        """Begins in the middle; nothing is random."""
        return jnp.zeros(2)

    def move(self, state: Array, action: Array) -> tuple[Array, Array]:
        """Moves by an action [2]; an episode never ends for it."""
        return jnp.clip(state + self.speed * action, -self.edge, self.edge), jnp.zeros((), bool)

    def observe(self, state: Array) -> Array:
        """The position [2] in units of `edge`."""
        return state / self.edge

    def element(self, state: Array) -> Array:
        """The position [2]."""
        return state

    def element_seen(self, observation: Floats) -> Floats:
        """The positions [..., 2] that observations [..., observation] show."""
        return np.asarray(observation[..., :2] * self.edge)


@dataclasses.dataclass(frozen=True)
class AntPlane:
    """Brax's ant in a plane: its episode ends where its torso leaves the square [-edge, edge]^2, and not when it falls.

    Observations are the ant's, position included: x and y in units of `edge`, then the other coordinates and velocities as
    they are.

    Attributes:
      edge: half the side of the square, in metres.
      backend: the physics, one of Brax's.
    """

    edge: float = 20.0
    backend: str = brax_envs.DEFAULT_BACKEND

    def __post_init__(self) -> None:
        """Refuses at once what cannot run."""
        _refuse_edge(self.edge)
        _load_ant(self.backend)

    @property
    def observation_size(self) -> int:
        """29: 15 coordinates and 14 velocities."""
        return _load_ant(self.backend).observation_size

    @property
    def action_size(self) -> int:
        """8 torques."""
        return _load_ant(self.backend).action_size

    @property
    def num_actions(self) -> None:
        """Actions are continuous."""
        return None

    @property
    def visits_start(self) -> bool:
        """A trajectory begins where the ant is set down."""
        return True

    def reset(self, key: Array) -> PyTree:
        """Sets the ant down near the middle; the state is Brax's."""
        return brax_envs.reset_state(_load_ant(self.backend).env, key)

    def move(self, state: PyTree, action: Array) -> tuple[PyTree, Array]:
        """Applies torques [8]; whether the ant has left the square."""
        state = brax_envs.step_state(_load_ant(self.backend).env, state, action)
        return state, jnp.any(jnp.abs(self.element(state)) > self.edge)

    def observe(self, state: PyTree) -> Array:
        """The ant's observation [29] with its position in units of `edge`."""
        return jnp.concatenate([self.element(state) / self.edge, state.obs[2:]])

    def element(self, state: PyTree) -> Array:
        """The torso's position [2] in metres."""
        position: Array = state.obs[:2]
        return position

    def element_seen(self, observation: Floats) -> Floats:
        """The positions [..., 2] that observations [..., observation] show."""
        return np.asarray(observation[..., :2] * self.edge)


@functools.cache
def _load_ant(backend: str) -> brax_envs.Loaded:
    if backend not in brax_envs.BACKENDS:
        raise unknown_name("Brax backend", backend, brax_envs.BACKENDS)
    quiet_mujoco()
    # A first use inside a traced function would otherwise store that trace's values in the cache.
    with quiet_import(), jax.ensure_compile_time_eval():
        import brax.envs

        env = brax.envs.get_environment(
            "ant",
            backend=backend,
            exclude_current_positions_from_observation=False,
            terminate_when_unhealthy=False,
        )
    return brax_envs.probe(env, f"brax/ant with backend {backend!r}", lambda state: state.obs)


def _refuse_edge(edge: float) -> None:
    if not 0 < edge < np.inf:
        raise InvalidSettingError(f"The edge of the square must be above 0 and finite, got {edge:g}.")
