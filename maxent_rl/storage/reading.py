"""Reading files that may be damaged, or hostile: ordinary files alone, JSON within bounds, and one sentence for what is wrong.

All JSON that the library reads comes by `read_json`, all npz archives by `storage.archives`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from maxent_rl.errors import MaxentRLError
from maxent_rl.storage.files import first_line

_LARGEST_JSON = 2**25  # bytes: a sweep of ten thousand jobs
_DEEPEST = 100  # lists and dicts in each other: what goes over them later recurses
_LONGEST_NUMBER = 80  # digits: states of random generators have 39


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a file for reading where it is one: a pipe or a device may give bytes without end, or none for ever.

    Raises:
      OSError: there is none, it may not be read, or is something else.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder, expected a file", str(path))
        raise OSError(errno.EINVAL, "it is a pipe or a device, expected a file", str(path))
    return os.fdopen(descriptor, "rb")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a file of JSON.

    Raises:
      OSError: there is none, it may not be read, or is no ordinary file.
      ValueError: it is no JSON, or of a size, a depth or with numbers that no file of the library has.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _LARGEST_JSON:
            raise ValueError(f"it has {size:,} bytes of JSON, and {_LARGEST_JSON:,} are the most that are read")
        return parse_json(file.read(size).decode("utf-8"))


def parse_json(text: str) -> Any:
    """Reads JSON; NaN and infinities are numbers in it, as Python writes them.

    Raises:
      ValueError: as `read_json` does.
    """
    try:
        value = json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value]
    for _ in range(_DEEPEST):
        level = [each for entry in level if isinstance(entry, (dict, list)) for each in _entries(entry)]
        if not level:
            break
    else:
        raise ValueError("it is nested too deeply")
    if "\\ud" in text.lower():  # may be half a character, which no file and no terminal takes
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half a character") from None
    return value


@contextlib.contextmanager
def refuse_damage(what: str | Path, kind: type[MaxentRLError]) -> Iterator[None]:
    """Turns whatever damaged or hostile content makes its readers raise into one sentence.

    Args:
      what: is read, as the sentence begins.
      kind: of the error.

    Raises:
      MaxentRLError: of that kind, saying what is wrong; those of the block itself are passed on.
    """
    try:
        yield
    except MaxentRLError:
        raise
    except Exception as error:  # there is no list of what readers raise for damaged content
        raise kind(f"{what} is damaged: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    told = first_line(error)
    if isinstance(error, KeyError):
        return f"it has no {told}"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, (TypeError, AttributeError, IndexError, ArithmeticError)):
        return f"something in it has another type or size than expected ({told})"
    return told


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError(f"it holds a whole number of {len(digits):,} digits")
    return int(digits)


def _entries(value: dict[str, Any] | list[Any]) -> Any:
    return value.values() if isinstance(value, dict) else value
