"""Environments that pay for a set of visited elements which lie in a plane, and so can be drawn."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.submodular.env import SubmodularEnv
from maxent_rl.envs.submodular.field_map import FieldMap
from maxent_rl.set_functions.base import Table

Floats = NDArray[np.floating[Any]]


class Seen(Protocol):
    """A motion whose observations tell the element."""

    def element_seen(self, observation: Floats) -> NDArray[Any]:
        """Elements [...] or [..., axis] that observations [..., observation] show."""
        ...


@dataclasses.dataclass(frozen=True)
class Plane:
    """Where the elements of a ground set lie among the cells of a plane.

    Attributes:
      value: [row, column] what lies in each cell; NaN where nobody can go.
      label: what these values are, in words, with their unit.
      positions: [element, 2] column and row of each element, for elements that are numbers; None where an element is a
        point (x, y) of the square [-edge, edge]^2, x to the right along the columns and y downwards along the rows.
      edge: half the side of that square.
      footprints: [cell, size] int32 cells, counted along the rows, that a visit of one reaches, filled up with -1; None
        for the cell alone.
      marks: positions of named things (column, row, name).
      edges: pairs of positions that a line joins.
    """

    value: Table
    label: str
    positions: Table | None = None
    edge: float = 1.0
    footprints: Table | None = None
    marks: tuple[tuple[float, float, str], ...] = ()
    edges: tuple[tuple[tuple[float, float], tuple[float, float]], ...] = ()

    def places(self, elements: NDArray[Any]) -> Floats:
        """Positions [..., 2] of elements [...] or [..., 2]."""
        if self.positions is not None:
            return np.asarray(self.positions.values[elements], np.float64)
        rows, columns = self.value.values.shape
        share = (np.asarray(elements, np.float64) + self.edge) / (2 * self.edge)
        return np.asarray(share * np.array([columns, rows]) - 0.5)

    def reached(self, positions: Floats) -> NDArray[np.bool_]:
        """Cells [row, column] that positions [n, 2] reach."""
        rows, columns = self.value.values.shape
        column, row = (
            np.clip(np.floor(positions[..., axis] + 0.5), 0, last - 1).astype(int)
            for axis, last in enumerate((columns, rows))
        )
        cells = row * columns + column
        if self.footprints is not None:
            cells = self.footprints.values[cells].ravel()
        reached = np.zeros(rows * columns, bool)
        reached[cells[cells >= 0]] = True
        return reached.reshape(rows, columns)


@dataclasses.dataclass(frozen=True)
class SubmodularPlane(SubmodularEnv):
    """A `SubmodularEnv` in a plane.

    Attributes:
      plane: where its elements lie.
    """

    plane: Plane = dataclasses.field(kw_only=True)

    @property
    def field_map(self) -> FieldMap:
        """What lies in the plane, and where observations lie in it."""
        return FieldMap(
            np.asarray(self.plane.value),
            self.plane.label,
            functools.partial(_places, self),
            functools.partial(_reached, self),
            self.plane.marks,
            self.plane.edges,
        )


def _places(env: SubmodularPlane, observation: Floats) -> Floats:
    return env.plane.places(cast(Seen, env.motion).element_seen(np.asarray(observation)))


def _reached(env: SubmodularPlane, observation: Floats) -> NDArray[np.bool_]:
    return env.plane.reached(_places(env, observation))
