"""Set functions made of set functions: sums, what saturates, and changes of what counts as an element."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from maxent_rl.errors import InvalidSettingError, unknown_name
from maxent_rl.set_functions.base import SetFunction, common_size
from maxent_rl.types import Array, PyTree

CURVES = {"sqrt": jnp.sqrt, "log1p": jnp.log1p}


class Valued(NamedTuple):
    """The memory of a function of a function.

    Attributes:
      inner: the inner function's memory.
      value: [] the inner function's value of all that was visited.
    """

    inner: PyTree
    value: Array


@dataclasses.dataclass(frozen=True)
class Sum(SetFunction):
    """A weighted sum of set functions over the same elements. `f + g` and `2.0 * f` are sums.

    Attributes:
      functions: at least one.
      weights: of each function, at least 0.
    """

    functions: tuple[SetFunction, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuses weights that turn diminishing returns round, and a weight too many or too few."""
        if not self.functions or len(self.functions) != len(self.weights):
            raise InvalidSettingError(
                f"A sum takes as many weights as functions, at least one, got {len(self.functions)} functions "
                f"and {len(self.weights)} weights."
            )
        for function, weight in zip(self.functions, self.weights, strict=True):
            if not 0 <= weight < math.inf:
                raise InvalidSettingError(
                    f"The weight of {type(function).__name__} in a sum must be at least 0 and finite, or visits could "
                    f"lower its value and returns could grow; got {weight:g}."
                )

    @property
    def capacity(self) -> int | None:
        """The smallest of its functions'."""
        return min((each.capacity for each in self.functions if each.capacity is not None), default=None)

    @property
    def ground_set_size(self) -> int | None:
        """The smallest of its functions'."""
        return common_size(self.functions)

    def empty(self) -> tuple[PyTree, ...]:
        """The memories of its functions."""
        return tuple(each.empty() for each in self.functions)

    def add(self, memory: tuple[PyTree, ...], element: Array) -> tuple[tuple[PyTree, ...], Array]:
        """Visits one element in all functions."""
        added = [each.add(inner, element) for each, inner in zip(self.functions, memory, strict=True)]
        return tuple(inner for inner, _ in added), self._weighted([gain for _, gain in added])

    def value(self, trajectory: Array) -> Array:
        """The weighted sum of the functions' values."""
        return self._weighted([each.value(trajectory) for each in self.functions])

    def single(self, element: Array) -> Array:
        """The weighted sum of what the functions give to one element."""
        return self._weighted([each.single(element) for each in self.functions])

    def summary(self, memory: tuple[PyTree, ...]) -> Array:
        """The functions' summaries one after the other."""
        return jnp.concatenate([each.summary(inner) for each, inner in zip(self.functions, memory, strict=True)])

    def _weighted(self, values: list[Array]) -> Array:
        return jnp.asarray(sum(weight * value for weight, value in zip(self.weights, values, strict=True)))


SetFunction._sum = Sum  # what `+` and `*` make


@dataclasses.dataclass(frozen=True)
class Curved(SetFunction):
    """A concave function, rising from 0, of the value of another: base of those that saturate.

    Attributes:
      function: the one inside.
    """

    function: SetFunction

    @abc.abstractmethod
    def bend(self, value: Array) -> Array:
        """The concave function. It must be monotone in floating point too, or a gain could be below 0."""

    @property
    def capacity(self) -> int | None:
        """That of the function inside."""
        return self.function.capacity

    @property
    def ground_set_size(self) -> int | None:
        """That of the function inside."""
        return self.function.ground_set_size

    def empty(self) -> Valued:
        """Nothing, of value 0."""
        return Valued(self.function.empty(), jnp.zeros(()))

    def add(self, memory: Valued, element: Array) -> tuple[Valued, Array]:
        """Visits one element inside."""
        inner, gain = self.function.add(memory.inner, element)
        value = memory.value + gain
        return Valued(inner, value), self.bend(value) - self.bend(memory.value)

    def value(self, trajectory: Array) -> Array:
        """The curve at the inner value."""
        return self.bend(self.function.value(trajectory))

    def single(self, element: Array) -> Array:
        """The curve at what the inner function gives to one element."""
        return self.bend(self.function.single(element))

    def summary(self, memory: Valued) -> Array:
        """That of the function inside, which tells its value."""
        return self.function.summary(memory.inner)


@dataclasses.dataclass(frozen=True)
class Truncated(Curved):
    """min(F, cap): enough is enough. The truncation of a monotone submodular function is one.

    Attributes:
      function: what is cut off.
      cap: where, above 0.
    """

    cap: float

    def __post_init__(self) -> None:
        """Refuses caps below which no value lies."""
        if not 0 < self.cap < math.inf:
            raise InvalidSettingError(f"The cap of a truncated function must be above 0 and finite, got {self.cap:g}.")

    def bend(self, value: Array) -> Array:
        """The value, up to the cap."""
        return jnp.minimum(value, self.cap)


@dataclasses.dataclass(frozen=True)
class Concave(Curved):
    """sqrt(F) or log(1 + F).

    Attributes:
      function: what is bent.
      curve: "sqrt" or "log1p".
    """

    curve: str

    def __post_init__(self) -> None:
        """Refuses curves that are not known.

        Raises:
          UnknownNameError: there is no such curve.
        """
        if self.curve not in CURVES:
            raise unknown_name("curve", self.curve, CURVES)

    def bend(self, value: Array) -> Array:
        """Root or logarithm."""
        return CURVES[self.curve](value)


@dataclasses.dataclass(frozen=True)
class PiecewiseConcave(Curved):
    """A concave polygon of F, constant after its last point.

    Attributes:
      function: what is bent.
      points: (F, value) corners from (0, 0) on, of rising F, with slopes that are at least 0 and never grow.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        """Refuses polygons that fall anywhere, or grow steeper."""
        if len(self.points) < 2 or tuple(self.points[0]) != (0.0, 0.0):
            raise InvalidSettingError(
                f"The points of a concave polygon start at (0, 0) and are at least 2, got {self.points}."
            )
        before = math.inf
        for (x, y), (after_x, after_y) in zip(self.points, self.points[1:], strict=False):
            piece = f"from ({x:g}, {y:g}) to ({after_x:g}, {after_y:g})"
            if not (x < after_x < math.inf and math.isfinite(after_y)):
                raise InvalidSettingError(
                    f"The points of a concave polygon must be finite and rise in F, unlike {piece}."
                )
            slope = (after_y - y) / (after_x - x)
            if slope < 0:
                raise InvalidSettingError(
                    f"A function of a set function must never fall, or a visit could lower the value: {piece} "
                    f"its slope is {slope:g}."
                )
            if slope > before * (1 + 1e-9):  # equal slopes of unequal roundings may pass
                raise InvalidSettingError(
                    f"A function of a set function must be concave, or returns could grow: {piece} its slope is {slope:g}, "
                    f"before it was {before:g}."
                )
            before = slope

    def bend(self, value: Array) -> Array:
        """The least of the lines through its pieces, which is the polygon because it is concave."""
        least = jnp.full_like(value, self.points[-1][1])
        for (x, y), (after_x, after_y) in zip(self.points, self.points[1:], strict=False):
            least = jnp.minimum(least, y + (after_y - y) / (after_x - x) * (value - x))
        return least


class Seen(NamedTuple):
    """The memory of what counts once.

    Attributes:
      inner: the inner function's memory.
      seen: [element] bool the elements that were visited.
    """

    inner: PyTree
    seen: Array


@dataclasses.dataclass(frozen=True)
class Distinct(SetFunction):
    """A function in which each element of a finite ground set counts once, however often it is visited.

    Needed for those that pay repeats, which are functions of pairs of element and time: `Modular` and `LogDeterminant`
    have settings of their own for it, which cost less.

    Attributes:
      function: what counts repeats.
      size: number of elements of the ground set.
    """

    function: SetFunction
    size: int

    def __post_init__(self) -> None:
        """Refuses an empty ground set."""
        if self.size < 1:
            raise InvalidSettingError(f"A ground set must have at least 1 element, got {self.size}.")
        known = self.function.ground_set_size
        if known is not None and known < self.size:
            raise InvalidSettingError(
                f"A ground set of {self.size} elements is more than the {known} of {type(self.function).__name__}."
            )

    @property
    def capacity(self) -> int | None:
        """That of the function inside."""
        return self.function.capacity

    @property
    def ground_set_size(self) -> int | None:
        """As told."""
        return self.size

    def empty(self) -> Seen:
        """Nothing was seen."""
        return Seen(self.function.empty(), jnp.zeros(self.size, bool))

    def add(self, memory: Seen, element: Array) -> tuple[Seen, Array]:
        """Visits one element, unless it was visited before."""
        again = memory.seen[element]
        added, gain = self.function.add(memory.inner, element)
        inner = jax.tree.map(lambda old, new: jnp.where(again, old, new), memory.inner, added)
        return Seen(inner, memory.seen.at[element].set(True)), jnp.where(again, jnp.zeros_like(gain), gain)

    def value(self, trajectory: Array) -> Array:
        """By way of gains: there is no other where the number of distinct elements is not known in advance."""
        return jnp.sum(self.marginal_gains(trajectory))

    def single(self, element: Array) -> Array:
        """What the function inside gives to it."""
        return self.function.single(element)

    def summary(self, memory: Seen) -> Array:
        """The inner function's, and [element] 1 where something was visited."""
        return jnp.concatenate([self.function.summary(memory.inner), memory.seen.astype(jnp.float32)])


@dataclasses.dataclass(frozen=True)
class OnGrid(SetFunction):
    """A function of the cells of a rectangle as one of points in it.

    Cell (column, row), in which the first axis of a point gives the column and the second the row, is element
    row * columns + column; row 0 is at the low end of the second axis. Points outside count for the nearest cell.

    Attributes:
      function: of columns * rows elements.
      low: lower corner of the rectangle (first axis, second axis).
      high: upper corner.
      cells: columns along the first axis and rows along the second.
    """

    function: SetFunction
    low: tuple[float, float]
    high: tuple[float, float]
    cells: tuple[int, int]

    def __post_init__(self) -> None:
        """Refuses empty rectangles."""
        rising = all(-math.inf < low < high < math.inf for low, high in zip(self.low, self.high, strict=True))
        if not rising or min(self.cells) < 1:
            raise InvalidSettingError(
                f"A grid needs a rectangle with an inside and at least one cell each way, got {self.cells} cells "
                f"from {self.low} to {self.high}."
            )
        known = self.function.ground_set_size
        if known is not None and known != self.cells[0] * self.cells[1]:
            raise InvalidSettingError(
                f"A grid of {self.cells[0]} x {self.cells[1]} cells needs a function of as many elements, but "
                f"{type(self.function).__name__} has {known}."
            )

    @property
    def capacity(self) -> int | None:
        """That of the function of cells."""
        return self.function.capacity

    def cell(self, points: Array) -> Array:
        """The elements [...] int32 in which points [..., 2] lie."""
        low, high = jnp.asarray(self.low), jnp.asarray(self.high)
        places = jnp.floor((jnp.asarray(points) - low) / (high - low) * jnp.asarray(self.cells))
        column, row = jnp.moveaxis(jnp.clip(places, 0, jnp.asarray(self.cells) - 1).astype(jnp.int32), -1, 0)
        cell: Array = row * self.cells[0] + column
        return cell

    def empty(self) -> PyTree:
        """That of the function of cells."""
        return self.function.empty()

    def add(self, memory: PyTree, element: Array) -> tuple[PyTree, Array]:
        """Visits the cell of a point [2]."""
        return self.function.add(memory, self.cell(element))

    def value(self, trajectory: Array) -> Array:
        """Of the cells of points [n, 2]."""
        return self.function.value(self.cell(trajectory))

    def single(self, element: Array) -> Array:
        """Of the cell of a point [2]."""
        return self.function.single(self.cell(element))

    def summary(self, memory: PyTree) -> Array:
        """That of the function of cells."""
        return self.function.summary(memory)
