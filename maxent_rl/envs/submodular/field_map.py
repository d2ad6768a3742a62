"""What an environment over a plane may tell for a picture: what lies there, and where its trajectories lead."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


@dataclasses.dataclass(frozen=True)
class FieldMap:
    """A plane of cells, and how observations lie in it.

    Attributes:
      value: [row, column] what lies in each cell, row 0 at the top; NaN where nobody can go.
      label: what these values are, in words, with their unit.
      places: takes observations [..., observation] to positions [..., 2]: column and row, cell (0, 0) having its middle at
        (0, 0), fractions between cells.
      reached: takes the observations of one trajectory [n, observation] to cells [row, column] bool that count as reached.
      marks: positions of named things (column, row, name), such as items of a kind.
      edges: pairs of positions that a line joins, for graphs that are no grids.
    """

    value: Floats
    label: str
    places: Callable[[Floats], Floats]
    reached: Callable[[Floats], NDArray[np.bool_]]
    marks: tuple[tuple[float, float, str], ...] = ()
    edges: tuple[tuple[tuple[float, float], tuple[float, float]], ...] = ()


@runtime_checkable
class HasFieldMap(Protocol):
    """An environment whose trajectories can be drawn over what lies in its plane."""

    @property
    def field_map(self) -> FieldMap:
        """The plane."""
        ...
