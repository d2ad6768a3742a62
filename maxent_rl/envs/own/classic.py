"""CartPole and MountainCar as pure JAX functions, so that they are stepped inside the jitted loop.

Dynamics, rewards, starts and time limits are those of Gymnasium's `CartPole-v1` and `MountainCar-v0`, in single precision.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from maxent_rl.types import Array, Spec


@dataclasses.dataclass(frozen=True)
class CartPole:
    """A pole on a cart that is pushed left or right; each step on which it stands pays 1.

    Source: Neuronlike Adaptive Elements That Can Solve Difficult Learning Control Problems (Barto, Sutton and Anderson,
    1983), with the numbers of Gymnasium's `CartPole-v1`.
    """

    GRAVITY: ClassVar[float] = 9.8
    CART_MASS: ClassVar[float] = 1.0
    POLE_MASS: ClassVar[float] = 0.1
    HALF_LENGTH: ClassVar[float] = 0.5
    FORCE: ClassVar[float] = 10.0
    SECONDS: ClassVar[float] = 0.02
    LARGEST_ANGLE: ClassVar[float] = 12.0 * math.pi / 180.0
    LARGEST_POSITION: ClassVar[float] = 2.4

    @property
    def spec(self) -> Spec:
        """Observations are position, velocity, angle and angular velocity."""
        return Spec(observation_shape=(4,), action_shape=(), horizon=500, num_actions=2)

    def reset(self, key: Array) -> tuple[Array, Array]:
        """Starts near upright and at rest."""
        state = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return state, state

    def step(self, state: Array, action: Array) -> tuple[Array, Array, Array, Array]:
        """Pushes left (0) or right (1) for one interval, by Euler's method."""
        _, velocity, angle, spin = state
        force = jnp.where(action == 1, self.FORCE, -self.FORCE)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        mass = self.CART_MASS + self.POLE_MASS
        lever = self.POLE_MASS * self.HALF_LENGTH
        push = (force + lever * spin**2 * sine) / mass
        inertia = self.HALF_LENGTH * (4.0 / 3.0 - self.POLE_MASS * cosine**2 / mass)
        spin_rate = (self.GRAVITY * sine - cosine * push) / inertia
        acceleration = push - lever * spin_rate * cosine / mass
        state = state + self.SECONDS * jnp.stack([velocity, acceleration, spin, spin_rate])
        fallen = (jnp.abs(state[0]) > self.LARGEST_POSITION) | (jnp.abs(state[2]) > self.LARGEST_ANGLE)
        return state, state, jnp.ones(()), fallen


@dataclasses.dataclass(frozen=True)
class MountainCar:
    """A car too weak to climb straight out of a valley; each step costs 1 until it is out.

    Source: Efficient Memory-based Learning for Robot Control (Moore, 1990), with the numbers of Gymnasium's `MountainCar-v0`.
    """

    LOWEST: ClassVar[float] = -1.2
    HIGHEST: ClassVar[float] = 0.6
    FASTEST: ClassVar[float] = 0.07
    GOAL: ClassVar[float] = 0.5
    FORCE: ClassVar[float] = 0.001
    GRAVITY: ClassVar[float] = 0.0025

    @property
    def spec(self) -> Spec:
        """Observations are position and velocity."""
        return Spec(observation_shape=(2,), action_shape=(), horizon=200, num_actions=3)

    def reset(self, key: Array) -> tuple[Array, Array]:
        """Starts near the bottom, at rest."""
        state = jnp.stack([jax.random.uniform(key, minval=-0.6, maxval=-0.4), jnp.zeros(())])
        return state, state

    def step(self, state: Array, action: Array) -> tuple[Array, Array, Array, Array]:
        """Drives left (0), not at all (1) or right (2)."""
        position, velocity = state
        velocity = velocity + (action - 1) * self.FORCE - jnp.cos(3.0 * position) * self.GRAVITY
        velocity = jnp.clip(velocity, -self.FASTEST, self.FASTEST)
        position = jnp.clip(position + velocity, self.LOWEST, self.HIGHEST)
        velocity = jnp.where((position == self.LOWEST) & (velocity < 0.0), 0.0, velocity)
        state = jnp.stack([position, velocity])
        return state, state, -jnp.ones(()), (position >= self.GOAL) & (velocity >= 0.0)
