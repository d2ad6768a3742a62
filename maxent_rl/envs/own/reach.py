"""A goal to reach in three dimensions, paid for only where one is near it: the smallest task that wants hindsight."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from maxent_rl.spaces import Space
from maxent_rl.types import Array, Spec

_SPACE = Space("dict", names=("achieved_goal", "desired_goal", "observation"), parts=(Space("box", (3,)),) * 3)


@dataclasses.dataclass(frozen=True)
class Reach:
    """A point that starts near the middle of a cube and is to be at a goal in it; each step pays 0 within 5 cm, else -1.

    Rules and numbers are those of `FetchReach` (Multi-Goal Reinforcement Learning, arXiv 1802.09464) without the arm: steps of
    5 cm at most along each axis, 50 of them, and the same threshold. Goals lie twice as far, up to 30 cm along each axis,
    where steps at random hardly ever come: FetchReach's 15 cm are found by chance now and then.
    """

    STEP: ClassVar[float] = 0.05
    THRESHOLD: ClassVar[float] = 0.05
    START: ClassVar[float] = 0.05
    FARTHEST: ClassVar[float] = 0.3

    @property
    def spec(self) -> Spec:
        """Observations are the place reached, the goal, and the velocity: the last step's move."""
        return Spec(observation_shape=(9,), action_shape=(3,), horizon=50, observation_space=_SPACE)

    def reset(self, key: Array) -> tuple[tuple[Array, Array], Array]:
        """Starts at rest within 5 cm of the middle, with a goal anywhere in the cube."""
        start, goal = jax.random.split(key)
        place = jax.random.uniform(start, (3,), minval=-self.START, maxval=self.START)
        wanted = jax.random.uniform(goal, (3,), minval=-self.FARTHEST, maxval=self.FARTHEST)
        return (place, wanted), jnp.concatenate([place, wanted, jnp.zeros(3)])

    def step(self, state: tuple[Array, Array], action: Array) -> tuple[tuple[Array, Array], Array, Array, Array]:
        """Moves; walls of the cube hold it."""
        place, wanted = state
        after = jnp.clip(place + self.STEP * action, -self.FARTHEST, self.FARTHEST)
        observation = jnp.concatenate([after, wanted, after - place])
        return (after, wanted), observation, self.compute_reward(after, wanted), jnp.zeros((), bool)

    def compute_reward(self, achieved: Array, desired: Array) -> Array:
        """[...] what steps pay that reached `achieved` [..., 3] and wanted `desired` [..., 3]."""
        far: Array = jnp.linalg.norm(achieved - desired, axis=-1) > self.THRESHOLD
        return -far.astype(jnp.float32)

    def compute_terminated(self, achieved: Array, desired: Array) -> Array:
        """[...] never: the goal is to be held."""
        return jnp.zeros(jnp.broadcast_shapes(achieved.shape, desired.shape)[:-1], bool)
