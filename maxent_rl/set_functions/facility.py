"""Facility location: every customer goes to the nearest of the visited places."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from maxent_rl.errors import ShapeError
from maxent_rl.set_functions.base import SetFunction, Table, refuse_negative, refuse_shape
from maxent_rl.types import Array


@dataclasses.dataclass(frozen=True)
class FacilityLocation(SetFunction):
    """How well each customer is served by the visited element that serves it best: sum_u weight_u max_{s in S} similarity_su.

    Attributes:
      similarity: [element, customer] how well an element serves a customer, at least 0.
      weights: [customer] how much a customer counts, at least 0; 1 each where there are none.
    """

    similarity: Table
    weights: Table | None = None

    def __post_init__(self) -> None:
        """Refuses what is no monotone function that is 0 for the empty set."""
        refuse_shape("similarities", self.similarity, ("element", "customer"))
        refuse_negative("similarities", self.similarity)
        if self.weights is not None:
            refuse_shape("weights of a facility location function", self.weights, ("customer",))
            refuse_negative("weights of a facility location function", self.weights)
            if len(self.weights.values) != self.similarity.values.shape[1]:
                raise ShapeError(
                    f"There are {len(self.weights.values)} weights for {self.similarity.values.shape[1]} customers."
                )

    @property
    def ground_set_size(self) -> int | None:
        """One for each row of similarities."""
        return len(self.similarity.values)

    def empty(self) -> Array:
        """[customer] 0: nobody is served."""
        return jnp.zeros_like(self.similarity.floats()[0])

    def add(self, memory: Array, element: Array) -> tuple[Array, Array]:
        """Serves the customers for whom this element is better than all before it."""
        served = jnp.maximum(memory, self.similarity.floats()[element])
        return served, jnp.sum(self._weighted(served - memory))

    def value(self, trajectory: Array) -> Array:
        """The weighted best similarities of indices [n]."""
        return jnp.sum(self._weighted(jnp.max(self.similarity.floats()[jnp.asarray(trajectory)], axis=0)))

    def summary(self, memory: Array) -> Array:
        """[customer] how well each is served, over the largest similarity of all."""
        largest = float(np.max(np.asarray(self.similarity)))
        return memory / (largest if largest > 0 else 1.0)

    def _weighted(self, served: Array) -> Array:
        return served if self.weights is None else self.weights.floats() * served
