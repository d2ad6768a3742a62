"""What a set function is: a value of the elements that a trajectory has visited, and what each visit adds to it.

A set function is a frozen, hashable dataclass; what has been visited stands in a memory, a pytree that goes in and comes
out, so that environments carry it through `scan` and `vmap`. An element is whatever the function takes: an int32 index []
into a finite ground set, or a point [axis].

Source: Submodular Reinforcement Learning (arXiv 2307.13372).
"""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from maxent_rl.types import Array, PyTree


class Table:
    """A constant array that can be a field of a frozen dataclass: compared and hashed by what it holds."""

    def __init__(self, values: ArrayLike) -> None:
        """Takes a copy of the values, which cannot be written to."""
        self.values: NDArray[Any] = np.array(values)
        self.values.flags.writeable = False
        self._hash = hash((self.values.shape, self.values.dtype.str, self.values.tobytes()))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The values, for NumPy."""
        return self.values if dtype is None else self.values.astype(dtype)

    def __eq__(self, other: object) -> bool:
        """Equal shapes, types and values, NaN being equal to NaN."""
        if not isinstance(other, Table) or self._hash != other._hash:
            return False
        mine, theirs = self.values, other.values
        return mine.shape == theirs.shape and mine.dtype == theirs.dtype and mine.tobytes() == theirs.tobytes()

    def __hash__(self) -> int:
        """Of shape, type and values, computed once."""
        return self._hash

    def __repr__(self) -> str:
        """Shape and type, not the values."""
        return f"Table({self.values.dtype}{list(self.values.shape)})"


class SetFunction(abc.ABC):
    """A monotone submodular function of the set of visited elements, 0 for none.

    Attributes:
      capacity: the most elements that a memory can take in, or None for any number.
    """

    @property
    def capacity(self) -> int | None:
        """No bound, unless a function says otherwise."""
        return None

    @abc.abstractmethod
    def empty(self) -> PyTree:
        """The memory of nothing."""

    @abc.abstractmethod
    def add(self, memory: PyTree, element: Array) -> tuple[PyTree, Array]:
        """Visits one element.

        Args:
          memory: of what was visited before.
          element: [] index or [axis] point.

        Returns:
          (memory, gain []): the gain is F(visited and element) - F(visited), at least 0.
        """

    @abc.abstractmethod
    def value(self, trajectory: Array) -> Array:
        """F of all elements of a trajectory at once, computed directly and not by way of gains.

        Args:
          trajectory: [n] indices or [n, axis] points, n at least 1.

        Returns:
          [] value.
        """

    @abc.abstractmethod
    def summary(self, memory: PyTree) -> Array:
        """What is known of the visited set as numbers [k] around 0 to 1, for policies that see more than the present."""

    def marginal_gains(self, trajectory: Array) -> Array:
        """What each element of a trajectory [n] or [n, axis] adds to those before it: [n], whose sum is `value`."""
        return jax.lax.scan(self.add, self.empty(), jnp.asarray(trajectory))[1]

    def single(self, element: Array) -> Array:
        """F of one element alone: [], what an additive reward pays for it."""
        return self.add(self.empty(), element)[1]
