"""Files that are there whole or not at all, and what is said where they cannot be written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maxent_rl.errors import InvalidSettingError, StorageError


def as_path(path: object, what: str) -> Path:
    """A path that a user has given, to `what`.

    Raises:
      InvalidSettingError: it is no path.
    """
    if isinstance(path, (str, os.PathLike)):
        return Path(path)
    given = repr(path) if isinstance(path, (int, float, type(None))) else f"a {type(path).__name__}"
    raise InvalidSettingError(
        f"Expected the path of {what}, got {given}{': pass its `folder`' if hasattr(path, 'folder') else ''}."
    )


@contextlib.contextmanager
def storage_errors(action: str) -> Iterator[None]:
    """Turns the errors of a failed write, also those that TensorStore wraps, into one sentence."""
    try:
        yield
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and not re.search(r"No space|Permission|EIO|ENOSPC|quota", str(error)):
            raise
        # TensorStore tells the reason after a page of where it was.
        full = re.search(r"No space|ENOSPC", str(error))
        raise StorageError(f"Cannot {action}: {'No space left on device' if full else first_line(error)}.") from error


def write_json(path: Path, value: Any) -> None:
    """Writes a file of JSON that is there whole or not at all, even when the power fails.

    Raises:
      StorageError: full disk, missing permission.
    """
    with storage_errors(f"write {path}"):
        partial_path = path.with_suffix(".partial")
        with open(partial_path, "w", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial_path, path)


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


def first_line(error: BaseException) -> str:
    """What an error says, in one line without its full stop."""
    reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return reason.splitlines()[0].rstrip(".")[:200]
