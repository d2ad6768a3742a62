"""Files that are there whole or not at all, and plain npz archives, which are read without executing anything in them.

Nothing of an archive is pickled. Its arrays can be read row by row, in order, so that those that do not fit in memory can be
gone over; the archive's own checksums find what was changed on the way.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from maxent_rl.errors import DataError

_DAMAGE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


@contextlib.contextmanager
def refuse_damage(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file makes its reader raise into one sentence.

    Raises:
      DataError: saying what is wrong with the file.
    """
    try:
        yield
    except DataError:
        raise
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} is damaged: {reason.splitlines()[0].rstrip('.')}.") from error


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Gives a place to write a file or a folder to, which is put at `path` once it is complete, and else deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    _delete(partial)
    try:
        yield partial
        for file in [partial] if partial.is_file() else [each for each in partial.rglob("*") if each.is_file()]:
            with open(file, "rb") as written:
                os.fsync(written.fileno())
        os.replace(partial, path)
    except BaseException:
        _delete(partial)
        raise


def to_json(notes: Any) -> str:
    """Notes on data as JSON; what JSON has no form for becomes text or is left out, as no note is worth the data.

    Args:
      notes: dicts, lists and values, also NumPy's.
    """
    return json.dumps(
        notes, skipkeys=True, default=lambda value: value.tolist() if hasattr(value, "tolist") else str(value)
    )


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def write_archive(path: Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Writes an npz archive of arrays and strings.

    Raises:
      OSError: full disk, missing permission.
    """
    write: Any = np.savez_compressed if compressed else np.savez
    with write_whole(path) as partial, open(partial, "wb") as file:
        write(file, allow_pickle=False, **arrays)


class Member:
    """One array of an archive, read from its first row to its last.

    Attributes:
      shape: of all of it.
      dtype: of its entries.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        """Reads its header.

        Raises:
          DataError: its entries are pickled.
          ValueError: it is not an array.
        """
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"it has the unknown version {version} of the npy format")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, self._by_columns, self.dtype = read_header(stream)
        if self.dtype.hasobject:
            raise ValueError("it holds pickled objects, which are never read")
        self._stream = stream
        self._whole: NDArray[Any] | None = None
        self._position = 0

    def read(self, count: int) -> NDArray[Any]:
        """The next `count` rows, [count, ...]."""
        if self._by_columns and len(self.shape) > 1:  # rows do not lie one after the other
            self._whole = self.all() if self._whole is None else self._whole
            self._position += count
            return self._whole[self._position - count : self._position]
        return self._entries(count * math.prod(self.shape[1:])).reshape(count, *self.shape[1:])

    def all(self) -> NDArray[Any]:
        """All of it, where nothing has been read yet."""
        flat = self._entries(math.prod(self.shape))
        return flat.reshape(self.shape[::-1]).transpose() if self._by_columns else flat.reshape(self.shape)

    def _entries(self, count: int) -> NDArray[Any]:
        wanted = count * self.dtype.itemsize
        data = self._stream.read(wanted)
        if len(data) != wanted:
            raise ValueError("an array in it is cut off")
        return np.frombuffer(data, self.dtype) if count else np.zeros(0, self.dtype)


class Archive:
    """An npz archive that is open for reading.

    Attributes:
      names: of its arrays.
    """

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self.names = {name.removesuffix(".npy") for name in file.namelist() if name.endswith(".npy")}

    def member(self, name: str) -> Member:
        """One array, to be read by rows."""
        return Member(self._file.open(f"{name}.npy"))

    def array(self, name: str) -> NDArray[Any]:
        """One array as a whole."""
        return self.member(name).all()


@contextlib.contextmanager
def open_archive(path: Path, what: str, required: Sequence[str]) -> Iterator[Archive]:
    """Opens an npz archive; whatever is found wrong with it while it is open is one sentence.

    Args:
      path: of the file.
      what: it should be, with an article, for messages.
      required: the arrays that it must have.

    Raises:
      DataError: it is something else, cut off, damaged, or lacks an array.
    """
    with refuse_damage(path), open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path} is not {what}, or is cut off: expected an npz archive with {', '.join(required)}.")
        with zipfile.ZipFile(file) as opened:
            archive = Archive(opened)
            missing = [name for name in required if name not in archive.names]
            if missing:
                raise DataError(f"{path} is not {what}: it has no {', '.join(missing)}.")
            yield archive
