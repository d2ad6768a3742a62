"""Set functions that count what the visited elements reach."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from maxent_rl.errors import InvalidSettingError
from maxent_rl.set_functions.base import SetFunction, Table, refuse_negative, refuse_shape
from maxent_rl.types import Array


@dataclasses.dataclass(frozen=True)
class Coverage(SetFunction):
    """The weight of all that is in at least one visited element's footprint.

    Attributes:
      footprints: [element, size] int what each element covers, each thing once, filled up with -1.
      weights: [covered] weight of each thing that can be covered, at least 0.
    """

    footprints: Table
    weights: Table

    def __post_init__(self) -> None:
        """Refuses what is no monotone function, and footprints whose gains would count a thing twice."""
        refuse_shape("footprints", self.footprints, ("element", "size"), "iu")
        refuse_shape("weights of a coverage function", self.weights, ("covered",))
        refuse_negative("weights of a coverage function", self.weights)
        largest = int(np.max(np.asarray(self.footprints)))
        if largest >= len(self.weights.values):
            raise InvalidSettingError(
                f"A footprint covers number {largest}, but there are weights for 0 to {len(self.weights.values) - 1} only."
            )
        ordered = np.sort(np.asarray(self.footprints), axis=1)
        twice = np.argwhere((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0))
        if twice.size:
            element, place = twice[0]
            raise InvalidSettingError(
                f"The footprint of element {element} names number {ordered[element, place]} twice: name each thing once, "
                "and fill the footprint up with -1."
            )

    @property
    def ground_set_size(self) -> int | None:
        """One for each footprint."""
        return len(self.footprints.values)

    def empty(self) -> Array:
        """[covered] bool: nothing is covered."""
        return jnp.zeros(len(self.weights.values), bool)

    def add(self, memory: Array, element: Array) -> tuple[Array, Array]:
        """Covers one element's footprint."""
        footprint = jnp.asarray(self.footprints.values)[element]
        new = (footprint >= 0) & ~memory[footprint]
        gain = jnp.sum(jnp.where(new, self.weights.floats()[footprint], 0.0))
        # Out of bounds, and so dropped, is where a footprint is filled up.
        return memory.at[jnp.where(footprint >= 0, footprint, len(memory))].set(True, mode="drop"), gain

    def value(self, trajectory: Array) -> Array:
        """The weight of the union of the footprints of indices [n]."""
        weights = self.weights.floats()
        footprints = jnp.asarray(self.footprints.values)[jnp.asarray(trajectory)]
        inside = jnp.where(footprints >= 0, footprints, len(weights))
        reached = jnp.zeros(len(weights), bool).at[inside].set(True, mode="drop")
        return jnp.sum(jnp.where(reached, weights, 0.0))

    def summary(self, memory: Array) -> Array:
        """[covered] 1 where something is covered."""
        return memory.astype(jnp.float32)
