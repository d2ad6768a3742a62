"""Plain npz archives, which are read without executing anything in them: of data sets, of policies, of states.

Nothing of an archive is pickled. Its arrays can be read row by row, in order, so that those that do not fit in memory can be
gone over; the archive's own checksums find what was changed on the way. What it declares is compared with what it has before
anything is allocated.
"""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from maxent_rl.errors import DataError, MaxentRLError
from maxent_rl.storage.files import write_whole
from maxent_rl.storage.reading import open_regular, refuse_damage

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What is compressed more than so many times, and to more than so many bytes, is made to fill memories.
_MOST_PACKED, _ALWAYS_UNPACKED = 200, 2**28
_BLOCK = 2**20


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

    def __init__(self, stream: IO[bytes], size: int) -> None:
        """Reads its header.

        Args:
          stream: at its beginning.
          size: of all of it, in bytes.

        Raises:
          ValueError: it is not an array, its entries are pickled, or it declares others than it has.
        """
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"it has the unknown version {version} of the npy format")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, self._by_columns, self.dtype = read_header(stream)
        if self.dtype.hasobject:
            raise ValueError("it holds pickled objects, which are never read")
        declared, there = math.prod(self.shape) * self.dtype.itemsize, size - stream.tell()
        if any(length < 0 for length in self.shape) or not self.dtype.itemsize or declared != there:
            raise ValueError(f"an array in it declares {declared:,} bytes, and {there:,} are there")
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
        """The next entries, in one dimension; at most as many as the header and the size of the archive agree on."""
        entries: NDArray[Any] = np.empty(count, self.dtype)
        left = memoryview(entries.view(np.uint8).data) if count else memoryview(b"")
        while left:
            data = self._stream.read(min(len(left), _BLOCK))
            if not data:
                raise ValueError("an array in it is cut off")
            left[: len(data)] = data
            left = left[len(data) :]
        return entries


class Budget:
    """How much of what a file declares is believed."""

    def __init__(self, size: int) -> None:
        """Takes the size of the file in bytes."""
        self._size, self._declared = size, 0

    def take(self, declared: int) -> None:
        """Counts what is about to be read.

        Raises:
          ValueError: with all before it there is more than any compression makes of arrays that are worth keeping.
        """
        self._declared += declared
        if self._declared > max(_MOST_PACKED * self._size, _ALWAYS_UNPACKED):
            raise ValueError(
                f"it declares {self._declared:,} bytes in a file of {self._size:,}, too many to be believed; if they are "
                "right, write it without compression"
            )


class Archive:
    """An npz archive that is open for reading.

    Attributes:
      names: of its arrays.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Looks at what a file declares.

        Raises:
          ValueError: it is compressed in another way than by NumPy, encrypted, or declares more than can be believed.
          zipfile.BadZipFile: it is no archive.
        """
        size = file.seek(0, os.SEEK_END)
        self._file = zipfile.ZipFile(file)
        entries = self._file.infolist()
        for entry in entries:
            if entry.compress_type not in _METHODS or entry.flag_bits & 1:
                raise ValueError(
                    f"{entry.filename} in it is encrypted, or compressed by the method {entry.compress_type}, where "
                    "numpy.savez and numpy.savez_compressed use 0 and 8"
                )
        Budget(size).take(sum(entry.file_size for entry in entries))
        self.names = {name.removesuffix(".npy") for name in self._file.namelist() if name.endswith(".npy")}

    def member(self, name: str) -> Member:
        """One array, to be read by rows."""
        entry = self._file.getinfo(f"{name}.npy")
        return Member(self._file.open(entry), entry.file_size)

    def array(self, name: str) -> NDArray[Any]:
        """One array as a whole."""
        return self.member(name).all()


@contextlib.contextmanager
def open_archive(
    path: Path, what: str, required: Sequence[str], kind: type[MaxentRLError] = DataError
) -> Iterator[Archive]:
    """Opens an npz archive; whatever is found wrong with it while it is open is one sentence.

    Args:
      path: of the file.
      what: it should be, with an article, for messages.
      required: the arrays that it must have.
      kind: of the error.

    Raises:
      MaxentRLError: of that kind: it is something else, cut off, damaged, hostile, or lacks an array.
    """
    with refuse_damage(path, kind), open_regular(path) as file:
        if not zipfile.is_zipfile(file):
            expected = f" with {', '.join(required)}" if required else ""
            raise kind(f"{path} is not {what}, or is cut off: expected an npz archive{expected}.")
        archive = Archive(file)
        missing = [name for name in required if name not in archive.names]
        if missing:
            raise kind(f"{path} is not {what}: it has no {', '.join(missing)}.")
        yield archive
