"""What a set function is: a value of the elements that a trajectory has visited, and what each visit adds to it.

A set function is a frozen, hashable dataclass; what has been visited stands in a memory, a pytree that goes in and comes
out, so that environments carry it through `scan` and `vmap`. An element is whatever the function takes: an int32 index []
into a finite ground set, or a point [axis].

Source: Submodular Reinforcement Learning (arXiv 2307.13372).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.types import Array, PyTree


class Table:
    """A constant array that can be a field of a frozen dataclass: compared and hashed by what it holds."""

    def __init__(self, values: ArrayLike) -> None:
        """Takes a copy of the values, which cannot be written to."""
        self.values: NDArray[Any] = np.array(values)
        self.values.flags.writeable = False
        self._single = self.values.astype(np.float32) if self.values.dtype.kind in "iuf" else self.values
        self._hash = hash((self.values.shape, self.values.dtype.str, self.values.tobytes()))

    def floats(self) -> Array:
        """The values as floating-point numbers: float64 only where they are and JAX runs at it, else float32."""
        double = self.values.dtype == np.float64 and jnp.result_type(float) == jnp.float64
        # Rounded here: JAX 0.10 keeps what an array that a compiled function holds was first rounded to, by its address, and
        # would go on with float32 where float64 is turned on later.
        return jnp.asarray(self.values if double else self._single)

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
      ground_set_size: elements that there are, numbered from 0; None where elements are points, or where it does not say.
    """

    # What `+` and `*` make: `combined.Sum`, which is made of set functions itself and puts itself here.
    _sum: ClassVar[Callable[[tuple[SetFunction, ...], tuple[float, ...]], SetFunction]]

    @property
    def capacity(self) -> int | None:
        """No bound, unless a function says otherwise."""
        return None

    @property
    def ground_set_size(self) -> int | None:
        """Not known, unless a function says otherwise."""
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
        """What each element of a trajectory [n] or [n, axis] adds to those before it: [n], whose sum is `value`.

        Raises:
          ShapeError: the trajectory is longer than the memory.
        """
        refuse_longer(self, trajectory)
        return jax.lax.scan(self.add, self.empty(), jnp.asarray(trajectory))[1]

    def single(self, element: Array) -> Array:
        """F of one element alone: [], what an additive reward pays for it."""
        return self.add(self.empty(), element)[1]

    def __add__(self, other: object) -> SetFunction:
        """The sum of two functions."""
        return SetFunction._sum((self, other), (1.0, 1.0)) if isinstance(other, SetFunction) else NotImplemented

    def __mul__(self, factor: float) -> SetFunction:
        """This many times the function; the factor must be at least 0."""
        return SetFunction._sum((self,), (float(factor),))

    __rmul__ = __mul__


def visited(trajectory: Array, size: int) -> Array:
    """Which elements of a ground set of `size` a trajectory [n] of indices holds: [size] bool."""
    return jnp.zeros(size, bool).at[trajectory].set(True)


def refuse_longer(function: SetFunction, trajectory: Array) -> None:
    """Refuses a trajectory that a function's memory cannot take in.

    Raises:
      ShapeError: the trajectory has more elements than the function's capacity.
    """
    length = np.shape(trajectory)[0]
    if function.capacity is not None and length > function.capacity:
        raise ShapeError(
            f"The memory of {type(function).__name__} holds {function.capacity} elements, but the trajectory has {length}: "
            "raise its capacity or shorten the trajectory."
        )


def refuse_negative(what: str, weights: Table) -> None:
    """Refuses weights with which a function would not be monotone.

    Args:
      what: the table's name in the message, in the plural.
      weights: to look at.

    Raises:
      InvalidSettingError: a weight is negative or not finite.
    """
    values = np.asarray(weights)
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if bad.size:
        raise InvalidSettingError(
            f"The {what} must be at least 0 and finite, or visits could lower the value; "
            f"number {bad[0]} is {values.ravel()[bad[0]]:g}."
        )


def refuse_unwrapped(what: str, table: object) -> None:
    """Refuses a list or an array where a table is needed, which can be compared and hashed.

    Raises:
      InvalidSettingError: it is no table.
    """
    if not isinstance(table, Table):
        raise InvalidSettingError(f"The {what} must be a Table, as in Table(values), got a {type(table).__name__}.")


def common_size(functions: Sequence[SetFunction]) -> int | None:
    """The smallest ground set of several functions over the same elements; None where none of them says."""
    return min((each.ground_set_size for each in functions if each.ground_set_size is not None), default=None)


def refuse_shape(what: str, table: Table, axes: tuple[str, ...], kinds: str = "iuf") -> None:
    """Refuses a table of another number of axes or of another type.

    Args:
      what: the table's name in the message.
      table: to look at.
      axes: what each of its axes is.
      kinds: of NumPy's types that it may have.

    Raises:
      InvalidSettingError: it is no table.
      ShapeError: the shape or the type is another, or nothing is in it.
    """
    refuse_unwrapped(what, table)
    values = table.values
    if values.ndim != len(axes) or values.size == 0 or values.dtype.kind not in kinds:
        numbers = "numbers" if "f" in kinds else "whole numbers"
        raise ShapeError(
            f"The {what} must be {numbers} [{', '.join(axes)}] and not empty, got {values.dtype} {list(values.shape)}."
        )
