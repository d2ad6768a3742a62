"""A lock on a folder, which one process holds at a time and the system takes back when that process dies."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from maxent_rl.errors import StorageError
from maxent_rl.storage.files import storage_errors


@contextlib.contextmanager
def only_one(path: Path, what: str, advice: str = "") -> Iterator[None]:
    """Within the block no other process on this machine (on most shared file systems: on any) holds the lock.

    The lock is the system's, on an open file: one whose owner was killed is free, and the file that stays means nothing.

    Args:
      path: the lock's file, whose folder is made if missing; it says who holds the lock.
      what: it is for, as an error begins: "The sweep in runs/sweep".
      advice: a further sentence of that error.

    Raises:
      StorageError: another one holds it, or the file cannot be made.
    """
    with storage_errors(f"make the lock {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed below
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = " ".join(file.read(200).split())
            by = f"another process ({holder})" if holder else "another process"
            raise StorageError(f"{what} is being run by {by}{': ' + advice if advice else ''}.") from error
        except (ImportError, OSError):
            pass  # no such locks on this system or file system
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n")
            file.flush()
        yield
