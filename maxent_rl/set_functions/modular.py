"""Modular functions: every element is worth the same whatever was visited before it."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from maxent_rl.set_functions.base import SetFunction, Table, refuse_negative, refuse_shape, visited
from maxent_rl.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class Modular(SetFunction):
    """The sum of the weights of the visited elements.

    With `repeats` the set is one of pairs of an element and a time, so that nothing repeats and every visit counts: the
    return of an ordinary Markov decision process.

    Attributes:
      weights: [element] what each is worth, at least 0.
      repeats: whether an element counts as often as it is visited; else once.
    """

    weights: Table
    repeats: bool = False

    def __post_init__(self) -> None:
        """Refuses what is no monotone function."""
        refuse_shape("weights of a modular function", self.weights, ("element",))
        refuse_negative("weights of a modular function", self.weights)

    @property
    def ground_set_size(self) -> int | None:
        """One for each weight."""
        return len(self.weights.values)

    def empty(self) -> PyTree:
        """[element] bool: nothing was visited. With repeats there is nothing to remember, and the memory is ()."""
        return () if self.repeats else jnp.zeros(len(self.weights.values), bool)

    def add(self, memory: PyTree, element: Array) -> tuple[PyTree, Array]:
        """Pays the element's weight, once or whenever it is visited."""
        weight = self.weights.floats()[element]
        if self.repeats:
            return (), weight
        return memory.at[element].set(True), jnp.where(memory[element], jnp.zeros_like(weight), weight)

    def value(self, trajectory: Array) -> Array:
        """The sum of the weights of indices [n], each once or as often as it is there."""
        weights, trajectory = self.weights.floats(), jnp.asarray(trajectory)
        if self.repeats:
            return jnp.sum(weights[trajectory])
        return jnp.sum(jnp.where(visited(trajectory, len(weights)), weights, 0.0))

    def summary(self, memory: PyTree) -> Array:
        """[element] 1 where something was visited; [0] with repeats, where the past does not matter."""
        return jnp.zeros(0) if self.repeats else memory.astype(jnp.float32)
