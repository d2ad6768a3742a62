"""Set functions that count what the visited elements reach."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from maxent_rl.envs.rewards.base import SetFunction, Table
from maxent_rl.errors import InvalidSettingError
from maxent_rl.types import Array


@dataclasses.dataclass(frozen=True)
class Coverage(SetFunction):
    """The weight of all that is in at least one visited element's footprint.

    Attributes:
      footprints: [element, size] int32 what each element covers, filled up with -1.
      weights: [covered] weight of each thing that can be covered, at least 0.
    """

    footprints: Table
    weights: Table

    def __post_init__(self) -> None:
        """Refuses what is no monotone function."""
        refuse_negative("coverage", self.weights)
        largest = int(np.max(np.asarray(self.footprints), initial=-1))
        if largest >= len(self.weights.values):
            raise InvalidSettingError(
                f"A footprint covers number {largest}, but there are weights for 0 to {len(self.weights.values) - 1} only."
            )

    def empty(self) -> Array:
        """[covered] bool: nothing is covered."""
        return jnp.zeros(len(self.weights.values), bool)

    def add(self, memory: Array, element: Array) -> tuple[Array, Array]:
        """Covers one element's footprint."""
        footprint = jnp.asarray(self.footprints.values)[element]
        new = (footprint >= 0) & ~memory[footprint]
        gain = jnp.sum(jnp.where(new, jnp.asarray(self.weights.values, jnp.float32)[footprint], 0.0))
        # Out of bounds, and so dropped, is where a footprint is filled up.
        return memory.at[jnp.where(footprint >= 0, footprint, len(memory))].set(True, mode="drop"), gain

    def value(self, trajectory: Array) -> Array:
        """The weight of the union of the footprints of indices [n]."""
        weights = jnp.asarray(self.weights.values, jnp.float32)
        footprints = jnp.asarray(self.footprints.values)[trajectory].ravel()
        reached = jnp.any(footprints[:, None] == jnp.arange(len(weights)), axis=0)
        return jnp.sum(jnp.where(reached, weights, 0.0))

    def summary(self, memory: Array) -> Array:
        """[covered] 1 where something is covered."""
        return memory.astype(jnp.float32)


def refuse_negative(what: str, weights: Table) -> None:
    """Refuses weights with which a function would not be monotone.

    Raises:
      InvalidSettingError: a weight is negative or not finite.
    """
    values = np.asarray(weights)
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if bad.size:
        raise InvalidSettingError(
            f"The weights of a {what} function must be at least 0 and finite, or visits could lower its value; "
            f"number {bad[0]} is {values.ravel()[bad[0]]:g}."
        )
