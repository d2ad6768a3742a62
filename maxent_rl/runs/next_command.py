"""Commands that are printed for a user to go on with: they work as they stand, where they are read."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def next_command(script: str | Path, *arguments: object) -> str:
    """A command that runs a script with this Python.

    Args:
      script: the script's file.
      *arguments: of the command line.
    """
    return shlex.join([_this_python(), _from_here(Path(script)), *map(str, arguments)])


def _this_python() -> str:
    """`python` where that is the one that runs, otherwise its path: that of an environment which is not activated."""
    found, running = shutil.which("python"), Path(sys.executable)
    # Not resolved: the Python of an environment is a link to the one that it was made with.
    if found is not None and Path(found).absolute().parent == running.absolute().parent:
        return "python"
    return _from_here(running)


def _from_here(path: Path) -> str:
    """A path from the working directory where it lies below it, otherwise the whole one."""
    absolute, here = Path(os.path.abspath(path)), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
