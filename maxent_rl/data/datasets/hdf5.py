"""HDF5 files of data sets as D4RL wrote them, for reading: flat arrays of all steps."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxent_rl.data.datasets.archives import refuse_damage
from maxent_rl.data.datasets.arrays_of_files import OPTIONAL, REQUIRED, column_pieces
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.errors import DataError, MissingDependencyError


@contextlib.contextmanager
def open_hdf5(path: Path, mode: str = "r") -> Iterator[Any]:
    """Opens an HDF5 file; what is found wrong with it while it is open is one sentence.

    Raises:
      DataError: it is something else, cut off or damaged.
      MissingDependencyError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} is an HDF5 file, which needs h5py: pip install 'maxent_rl[offline]'."
        ) from error
    with refuse_damage(path) if mode == "r" else contextlib.nullcontext(), h5py.File(path, mode) as file:
        yield file


class Hdf5Column:
    """One array of a file, read from its first row to its last."""

    def __init__(self, entry: Any, name: str, path: Path) -> None:
        """Takes an entry of a file.

        Raises:
          DataError: it is no array of numbers.
        """
        if not hasattr(entry, "dtype") or entry.dtype.hasobject:
            raise DataError(f"{path} has {name} that are no array of numbers.")
        self._entry, self._position = entry, 0
        self.shape: tuple[int, ...] = entry.shape

    def read(self, count: int) -> NDArray[Any]:
        """The next `count` rows, [count, ...]."""
        self._position += count
        return np.asarray(self._entry[self._position - count : self._position])


def hdf5_pieces(path: Path, size: int | None) -> Iterator[Dataset]:
    """Goes over a file once, in pieces of at most `size` transitions, or in one.

    A step that is flagged both as terminal and as cut by a time limit is terminal: such files come from environments that
    say both.

    Raises:
      DataError: it is something else, damaged, or its arrays do not fit together.
      MissingDependencyError: h5py is not installed.
    """
    with open_hdf5(path) as file:
        present = [name for name in (*REQUIRED, *OPTIONAL) if name in file]
        columns = {name: Hdf5Column(file[name], name, path) for name in present}
        for piece in column_pieces(columns, path, size, None, {}):
            yield dataclasses.replace(piece, truncated=piece.truncated & ~piece.terminated)


def open_group(file: Any, name: str, path: Path) -> Any:
    """A group of a file, by its low-level identifier.

    Raises:
      DataError: there is none of that name.
    """
    import h5py

    try:
        return h5py.h5g.open(file, name.encode())
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} has no group {name}.") from error


class StoredArray(NamedTuple):
    """An array of a file, with what takes time to ask for: its low-level identifier, shape and type."""

    identifier: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Rows `first` up to `last`."""
        import h5py

        if first or last != self.shape[0]:
            return np.asarray(h5py.Dataset(self.identifier)[first:last])
        rows = np.empty(self.shape, self.dtype)
        self.identifier.read(h5py.h5s.ALL, h5py.h5s.ALL, rows)
        return rows


def open_array(group: Any, name: str, where: str) -> StoredArray:
    """An array in a group, by low-level identifiers.

    Raises:
      DataError: there is none of that name, or what is there is no array of numbers.
    """
    import h5py

    try:
        found = h5py.h5d.open(group, name.encode())
    except (KeyError, TypeError, ValueError) as error:
        there = name.encode() in group
        what = f"{name} of several parts (wrap the environment to flatten them)" if there else f"no {name}"
        raise DataError(f"{where} has {what}; expected one array.") from error
    dtype = found.dtype
    if dtype.hasobject:
        raise DataError(f"{where} has {name} that are no array of numbers, such as images; expected numbers.")
    return StoredArray(found, found.shape, dtype)


def write_array(group: Any, name: str, array: NDArray[Any]) -> None:
    """Writes an array into a group, by low-level identifiers."""
    import h5py

    kind = h5py.h5t.py_create(array.dtype, logical=True)
    created = h5py.h5d.create(group, name.encode(), kind, h5py.h5s.create_simple(array.shape))
    created.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(array))
