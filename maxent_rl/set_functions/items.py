"""Set functions of a collection: so many of each kind are wanted, and no more."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from maxent_rl.errors import InvalidSettingError
from maxent_rl.set_functions.base import SetFunction, Table, refuse_negative, refuse_shape, visited
from maxent_rl.types import Array


class Collected(NamedTuple):
    """What has been collected.

    Attributes:
      visited: [element] bool the elements that were visited.
      counts: [kind] int32 the visited elements that hold each kind.
    """

    visited: Array
    counts: Array


@dataclasses.dataclass(frozen=True)
class ItemCollection(SetFunction):
    """The visited elements that hold an item, of each kind at most as many as are wanted: sum_k min(visited with k, limit_k).

    Attributes:
      items: [element] int which kind of item lies there, or -1 for none.
      limits: [kind] int how many of each kind are wanted, at least 0.
    """

    items: Table
    limits: Table

    def __post_init__(self) -> None:
        """Refuses kinds without a limit and limits below 0."""
        refuse_shape("items", self.items, ("element",), "iu")
        refuse_shape("limits of an item collection", self.limits, ("kind",), "iu")
        refuse_negative("limits of an item collection", self.limits)
        largest = int(np.max(np.asarray(self.items)))
        if largest >= len(self.limits.values):
            raise InvalidSettingError(
                f"An item is of kind {largest}, but there are limits for kinds 0 to {len(self.limits.values) - 1} only."
            )

    @property
    def ground_set_size(self) -> int | None:
        """One for each entry of `items`."""
        return len(self.items.values)

    def empty(self) -> Collected:
        """No visits and no items."""
        return Collected(jnp.zeros(len(self.items.values), bool), jnp.zeros(len(self.limits.values), jnp.int32))

    def add(self, memory: Collected, element: Array) -> tuple[Collected, Array]:
        """Takes the item of one element, unless it was taken before."""
        kind = jnp.asarray(self.items.values, jnp.int32)[element]
        new = (kind >= 0) & ~memory.visited[element]
        wanted = memory.counts[kind] < jnp.asarray(self.limits.values, jnp.int32)[kind]
        counts = memory.counts + (new & (jnp.arange(len(memory.counts)) == kind))
        return Collected(memory.visited.at[element].set(True), counts), (new & wanted).astype(jnp.float32)

    def value(self, trajectory: Array) -> Array:
        """What the distinct elements among indices [n] hold, up to the limits."""
        items = jnp.asarray(self.items.values, jnp.int32)
        held = visited(jnp.asarray(trajectory), len(items)) & (items == jnp.arange(len(self.limits.values))[:, None])
        limits = jnp.asarray(self.limits.values, jnp.int32)
        return jnp.sum(jnp.minimum(jnp.sum(held, axis=1), limits)).astype(jnp.float32)

    def summary(self, memory: Collected) -> Array:
        """[kind] the items of each kind over how many are wanted; above 1 where there are more."""
        return memory.counts / jnp.maximum(jnp.asarray(self.limits.values, jnp.float32), 1.0)
