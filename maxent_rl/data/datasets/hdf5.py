"""HDF5 files of data sets as D4RL wrote them, for reading: flat arrays of all steps."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxent_rl.data.datasets.arrays_of_files import OPTIONAL, REQUIRED, column_pieces
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.errors import DataError, MissingDependencyError
from maxent_rl.storage.archives import Budget
from maxent_rl.storage.reading import open_regular, refuse_damage

# Of its filters deflate packs most, 1,032 times; what no row was ever written of is not stored.
_MOST_DEFLATED, _ALWAYS_THERE = 1_100, 2**20


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
    if mode != "r":
        with h5py.File(path, mode) as file:
            yield file
        return
    with refuse_damage(path, DataError):
        open_regular(path).close()
        with h5py.File(path, mode) as file:
            yield file


class Hdf5Column:
    """One array of a file, read from its first row to its last."""

    def __init__(self, file: Any, name: str, path: Path, budget: Budget) -> None:
        """Takes an entry of a file.

        Raises:
          DataError: it is no array of numbers, or lies elsewhere.
          ValueError: it declares more than it has.
        """
        _refuse_other_files(file.id, name, str(path))
        entry = file[name]
        if not hasattr(entry, "dtype") or entry.dtype.hasobject:
            raise DataError(f"{path} has {name} that are no array of numbers.")
        _check_stored(entry.id, entry.shape, entry.dtype, f"{path}, {name},")
        budget.take(entry.size * entry.dtype.itemsize)
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
        budget = Budget(path.stat().st_size)
        columns = {name: Hdf5Column(file, name, path, budget) for name in present}
        for piece in column_pieces(columns, path, size, None, {}):
            yield dataclasses.replace(piece, truncated=piece.truncated & ~piece.terminated)


def open_group(file: Any, name: str, path: Path) -> Any:
    """A group of a file, by its low-level identifier.

    Raises:
      DataError: there is none of that name.
    """
    import h5py

    try:
        _refuse_other_files(file, name, str(path))
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
        _refuse_other_files(group, name, where)
        found = h5py.h5d.open(group, name.encode())
    except (KeyError, TypeError, ValueError) as error:
        there = name.encode() in group
        what = f"{name} of several parts (wrap the environment to flatten them)" if there else f"no {name}"
        raise DataError(f"{where} has {what}; expected one array.") from error
    dtype = found.dtype
    if dtype.hasobject:
        raise DataError(f"{where} has {name} that are no array of numbers, such as images; expected numbers.")
    _check_stored(found, found.shape, dtype, f"{where} {name},")
    return StoredArray(found, found.shape, dtype)


def _refuse_other_files(group: Any, name: str, where: str) -> None:
    """Refuses a link to another file, which is not what the user has named."""
    import h5py

    if name.encode() in group and group.links.get_info(name.encode()).type == h5py.h5l.TYPE_EXTERNAL:
        raise DataError(f"{where} has a link to another file for {name}; expected all in one file.")


def _check_stored(stored: Any, shape: tuple[int, ...] | None, dtype: np.dtype[Any], where: str) -> None:
    """Compares what an array declares with what is stored of it, before anything is allocated."""
    import h5py

    created = stored.get_create_plist()
    if created.get_layout() == h5py.h5d.VIRTUAL or created.get_external_count():
        raise DataError(f"{where} lies in other files; expected all in one file.")
    declared, there = math.prod(shape or ()) * dtype.itemsize, stored.get_storage_size()
    if declared > max(_MOST_DEFLATED * there, _ALWAYS_THERE):
        raise DataError(f"{where} declares {declared:,} bytes, and {there:,} are there.")


def write_array(group: Any, name: str, array: NDArray[Any]) -> None:
    """Writes an array into a group, by low-level identifiers."""
    import h5py

    kind = h5py.h5t.py_create(array.dtype, logical=True)
    created = h5py.h5d.create(group, name.encode(), kind, h5py.h5s.create_simple(array.shape))
    created.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(array))
