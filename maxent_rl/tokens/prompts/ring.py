"""A ring of things that came one after the other, each with the step at which it came, in arrays of fixed shapes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.types import Array, PyTree

_LATEST = 2**31 - 1


@struct.dataclass
class Ring:
    """Up to C entries.

    Attributes:
      entries: pytree of [C, ...].
      steps: [C] int32 when each came.
      arrivals: [C] int32 the how manieth it was.
      filled: [C] bool.
      total: [] int32 how many have come.
    """

    entries: PyTree
    steps: Array
    arrivals: Array
    filled: Array
    total: Array

    @classmethod
    def create(cls, capacity: int, like: PyTree) -> Ring:
        """An empty one.

        Args:
          capacity: C.
          like: pytree of arrays: one entry.
        """
        entries = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), like)
        zeros = jnp.zeros(capacity, jnp.int32)
        return cls(entries, zeros, zeros, jnp.zeros(capacity, bool), jnp.zeros((), jnp.int32))

    @property
    def capacity(self) -> int:
        """C."""
        return self.filled.shape[0]

    def pushed(self, entries: PyTree, valid: Array, step: Array) -> Ring:
        """With the valid ones of K entries, in order; they take the places of those that came first.

        Args:
          entries: pytree of [K, ...].
          valid: [K] bool.
          step: [] or [K] int32 when they came.
        """
        number = jnp.cumsum(valid) - 1
        last = jnp.sum(valid)
        kept = valid & (number >= last - self.capacity)
        arrivals = self.total + number
        place = jnp.where(kept, arrivals % self.capacity, self.capacity)

        def put(old: Array, new: Array) -> Array:
            return old.at[place].set(jnp.asarray(new, old.dtype), mode="drop")

        return Ring(
            jax.tree.map(put, self.entries, entries),
            put(self.steps, jnp.broadcast_to(step, valid.shape)),
            put(self.arrivals, arrivals),
            put(self.filled, kept),
            (self.total + last).astype(jnp.int32),
        )

    def without_old(self, step: Array, limit: int | None) -> Ring:
        """Without what came more than `limit` steps before; None for no limit."""
        if limit is None:
            return self
        return dataclasses.replace(self, filled=self.filled & (step - self.steps <= limit))

    def oldest(self, count: int, ready: Array | None = None) -> tuple[Array, Array]:
        """The places of those that came first, in order.

        Args:
          count: K.
          ready: [C] bool: which may be taken; None for all.

        Returns:
          (places [K] int32, there [K] bool: whether there are so many).
        """
        takes = self.filled if ready is None else self.filled & ready
        number = min(count, self.capacity)
        order = jnp.argsort(jnp.where(takes, self.arrivals, _LATEST))[:number]
        there = takes[order]
        return jnp.pad(order, (0, count - number)).astype(jnp.int32), jnp.pad(there, (0, count - number))

    def sampled(self, key: Array, count: int) -> tuple[Array, Array]:
        """Places drawn uniformly from the filled ones, with replacement: (places [K] int32, there [K] bool)."""
        logits = jnp.where(self.filled, 0.0, -jnp.inf)
        empty = ~jnp.any(self.filled)
        places = jax.random.categorical(key, jnp.where(empty, 0.0, logits), shape=(count,))
        return places.astype(jnp.int32), jnp.broadcast_to(~empty, (count,))

    def without(self, places: Array, taken: Array) -> Ring:
        """Without those at the places [K] that were taken, [K] bool."""
        index = jnp.where(taken, places, self.capacity)
        return dataclasses.replace(self, filled=self.filled.at[index].set(False, mode="drop"))

    def at(self, places: Array) -> PyTree:
        """The entries at places [K]: pytree of [K, ...]."""
        return jax.tree.map(lambda leaf: leaf[places], self.entries)
