"""The folder of a run that begins: made as late as can be, and gone again where the start fails."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from pathlib import Path

from maxent_rl.errors import StorageError
from maxent_rl.storage.files import storage_errors


def check_new_folder(folder: Path) -> None:
    """Refuses a folder that cannot become that of a run, and changes nothing.

    Raises:
      StorageError: a run is there already, or it cannot be made.
    """
    with storage_errors(f"make the folder {folder}"):
        holds_run = (folder / "config.json").exists()
    if holds_run:
        raise StorageError(f"{folder} already holds a run: go on with it (--resume {folder}) or choose another --name.")
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise StorageError(
            f"Cannot make the folder {folder}: {there} is {'read-only' if there.is_dir() else 'a file'}."
        )


class NewFolder:
    """A folder made for a run.

    Attributes:
      path: of the folder.
    """

    def __init__(self, path: Path, *, numbered: bool = False) -> None:
        """Makes the folder, with those that it lies in.

        Args:
          path: of the folder.
          numbered: where it is there already, make one with a number behind: runs may begin in the same second.

        Raises:
          StorageError: as `check_new_folder`.
        """
        for number in itertools.count(1):
            self.path = path if number == 1 else path.with_name(f"{path.name}-{number}")
            if not (numbered and self.path.exists()):
                check_new_folder(self.path)
            self._made = [each for each in (self.path, *self.path.parents) if not each.exists()]
            self._found = set() if self._made else set(self.path.iterdir())
            with storage_errors(f"make the folder {self.path}"):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self.path.mkdir(exist_ok=not numbered)
                    return
                except FileExistsError:
                    if not numbered:
                        raise

    def discard(self) -> None:
        """Takes away again what has been made, the folder's content included, and leaves what was there before."""
        with contextlib.suppress(OSError):
            for entry in set(self.path.iterdir()) - self._found:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            for folder in self._made:
                folder.rmdir()  # fails, and so ends this, where another run has come into one that they share
