"""Data sets in files: what is read, what is checked, and what is refused.

Three formats: Minari's (a folder, or the name of a data set that Minari has downloaded), plain npz archives, and D4RL's HDF5
files, for reading alone. All are read without executing anything in them, whole (`read_dataset`) or in pieces (`open_chunks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from maxent_rl.data.datasets.arrays_of_files import same_observation
from maxent_rl.data.datasets.dataset import Dataset, join
from maxent_rl.data.datasets.hdf5 import hdf5_pieces
from maxent_rl.data.datasets.minari import find_minari, is_minari_id, minari_pieces, minari_root, write_minari
from maxent_rl.data.datasets.npz import npz_pieces, write_npz
from maxent_rl.errors import DataError, InvalidSettingError

_READERS: dict[str, Callable[[Path, int | None], Iterator[Dataset]]] = {
    ".npz": npz_pieces,
    ".hdf5": hdf5_pieces,
    ".h5": hdf5_pieces,
}


def read_dataset(path: str | Path) -> Dataset:
    """Reads a data set whole.

    Args:
      path: of an npz archive, of an HDF5 file, of a Minari data set's folder, or the name of one (`namespace/name-v0`) that
        Minari has downloaded.

    Raises:
      DataError: it is missing, damaged, or holds impossible numbers.
      MissingDependencyError: its format needs a package that is not installed.
    """
    return join(list(_checked(_pieces(Path(path), None), str(path))))


def open_chunks(path: str | Path, chunk_size: int) -> Iterator[Dataset]:
    """Goes over a data set in pieces, so that it need not fit in memory; what is refused is what `read_dataset` refuses.

    A fault shows when its piece is reached: what comes before it has been given by then.

    Args:
      path: as for `read_dataset`.
      chunk_size: the most transitions of a piece; an episode may lie in several.

    Raises:
      InvalidSettingError: a piece of less than one transition.
      DataError, MissingDependencyError: as `read_dataset` does.
    """
    if chunk_size < 1:
        raise InvalidSettingError(f"Pieces of a data set must have 1 transition at least, got {chunk_size}.")
    return _checked(_pieces(Path(path), chunk_size), str(path))


def write_dataset(data: Dataset, path: str | Path) -> None:
    """Writes a data set, which is there whole or not at all.

    Args:
      data: the transitions.
      path: of an npz archive, if it ends in .npz, or of a Minari data set's folder.

    Raises:
      DataError: the data is not sound, or the path ends in something else.
      OSError: full disk, missing permission.
      MissingDependencyError: the format needs a package that is not installed.
    """
    path = Path(path)
    check_output(path)
    checks = PieceChecks(str(path))
    checks.check(data)
    checks.finish()
    (write_npz if path.suffix == ".npz" else write_minari)(data, path)


def check_output(path: Path) -> None:
    """Refuses names that say another format than those that are written.

    Raises:
      DataError: naming them.
    """
    if path.suffix not in (".npz", ""):
        raise DataError(
            f"Data sets are written as archives (NAME.npz) or as Minari folders (NAME, without an ending), not as {path}."
        )


def _checked(pieces: Iterator[Dataset], name: str) -> Iterator[Dataset]:
    checks = PieceChecks(name)
    for piece in pieces:
        checks.check(piece)
        yield piece
    checks.finish()


def _pieces(path: Path, size: int | None) -> Iterator[Dataset]:
    """Pieces of whatever format it is; refuses a path where there is none."""
    if path.is_file():
        if path.suffix not in _READERS:
            raise DataError(f"{path} is no data set: expected a file that ends in {', '.join(_READERS)}, or a folder.")
        return _READERS[path.suffix](path, size)
    folder = find_minari(path)
    if folder is not None:
        return minari_pieces(folder, size)
    if path.is_dir():
        raise DataError(f"{path} is a folder without data/metadata.json, so it is no Minari data set.")
    if is_minari_id(str(path)):
        raise DataError(
            f"{path} is neither a file nor a Minari data set in {minari_root()}: download it with `minari download {path}`."
        )
    raise DataError(f"{path} {'is neither a file nor a folder' if path.exists() else 'does not exist'}.")


class PieceChecks:
    """Checks consecutive pieces of one data set."""

    def __init__(self, name: str) -> None:
        """Takes the name of the data set, for messages."""
        self._name = name
        self._size = 0
        self._last: Dataset | None = None  # the last transition so far

    def check(self, piece: Dataset) -> None:
        """Refuses arrays that do not fit together, that hold impossible numbers, or episodes that do not hang together.

        Raises:
          DataError: saying what is wrong, and where.
        """
        _check_shapes(piece, self._name)
        self._check_numbers(piece)
        both = np.flatnonzero(piece.terminated & piece.truncated)
        if len(both):
            raise DataError(
                f"{self._name} has step {self._size + both[0]} both terminated and cut by a time limit; expected one of them."
            )
        if self._last is not None:
            self._check_going_on(join([self._last, piece.part(0, 1)]), self._size - 1)
        self._check_going_on(piece, self._size)
        self._size += piece.size
        self._last = piece.part(piece.size - 1, piece.size) if piece.size else self._last

    def finish(self) -> None:
        """Refuses a data set that ended before it began.

        Raises:
          DataError: it had no transition.
        """
        if not self._size:
            raise DataError(f"{self._name} is empty: it holds no transition.")

    def _check_numbers(self, piece: Dataset) -> None:
        arrays = {
            "observations": piece.observation,
            "actions": piece.action,
            "rewards": piece.reward,
            "next_observations": piece.next_observation,
        }
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                step, *entry = (int(index) for index in np.argwhere(~np.isfinite(array))[0])
                where = ", ".join(map(str, (self._size + step, *entry)))
                raise DataError(f"{self._name} holds NaN or infinity: {name}[{where}].")
        if piece.action.dtype.kind in "iu" and piece.size and piece.action.min() < 0:
            raise DataError(f"{self._name} has the action {piece.action.min()}; discrete actions count from 0.")

    def _check_going_on(self, piece: Dataset, first: int) -> None:
        ended = (piece.terminated | piece.truncated)[:-1]
        broken = np.flatnonzero(~ended & ~same_observation(piece.next_observation[:-1], piece.observation[1:]))
        if len(broken):
            step = first + broken[0]
            raise DataError(
                f"{self._name}: step {step} did not lead to the observation of step {step + 1}, but no episode ends there; "
                "expected a terminal or a time limit, or the same observation."
            )


def _check_shapes(data: Dataset, name: str) -> None:
    shapes = {key: getattr(data, key).shape for key in ("observation", "action", "next_observation")}
    flat = {key: getattr(data, key).shape for key in ("reward", "terminated", "truncated")}
    action = data.action
    if (
        len(shapes["observation"]) != 2
        or shapes["next_observation"] != shapes["observation"]
        or action.ndim not in (1, 2)
        or {shape[:1] for shape in shapes.values()} | set(flat.values()) != {data.reward.shape}
    ):
        told = ", ".join(f"{key} {list(shape)}" for key, shape in (shapes | flat).items())
        raise DataError(f"{name} has arrays of the shapes {told}; expected the same N steps in all of them.")
    if action.dtype.kind not in ("iu" if data.is_discrete else "iuf"):
        raise DataError(
            f"{name} has actions of shape {action.shape} and type {action.dtype}; expected real numbers [N, action], or "
            "whole ones [N] or [N, entry]."
        )
