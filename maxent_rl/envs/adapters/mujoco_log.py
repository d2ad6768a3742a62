"""What simulators say of themselves: a user sees what concerns a user, and finds no files in the working directory.

MuJoCo writes each warning to the terminal and to `MUJOCO_LOG.TXT` in the working directory. One of them, that
`settotalmass` is deprecated, is about model files that ship with Gymnasium and Brax: no user can do anything about it.
MJX prints two lines where the optional `warp` is missing, which is nearly everywhere. Brax warns in five that it is no longer
maintained, each time that it loads a model: docs/environments.md says so once.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from typing import Any

_NOT_FOR_USERS = "'settotalmass' is deprecated"
_LOG_FILE = "MUJOCO_LOG.TXT"
_BRAX_RESTS = "Brax System, "
_WARP_IS_MISSING = ("Failed to import warp:", "Failed to import mujoco_warp:")


def quiet_mujoco() -> None:
    """Turns MuJoCo's warnings into Python's, but for the one about `settotalmass`, and keeps its log file away.

    A warning handler or a log file that somebody has chosen stays. May be called any number of times.
    """
    import mujoco

    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_warn)
    _without_file(mujoco)


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Imports or loads a simulator without what it says of itself; all else that is printed goes through afterwards."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_BRAX_RESTS, category=UserWarning)
            yield
    finally:
        lines = printed.getvalue().splitlines(keepends=True)
        sys.stdout.write("".join(line for line in lines if not line.startswith(_WARP_IS_MISSING)))


def _without_file(mujoco: Any) -> None:
    # Errors are written to the file whatever handler there is for warnings. MuJoCo before 4 cannot be told otherwise.
    if not hasattr(mujoco, "MjLogConfig"):
        return
    config = mujoco.MjLogConfig.get()
    if config.logto_file and config.logfile == _LOG_FILE:
        config.logto_file = False
        config.set()


def _warn(message: str) -> None:
    """Called from C, in the thread that stepped."""
    if _NOT_FOR_USERS in message:
        return
    text = f"MuJoCo: {message.strip()}"
    try:
        warnings.warn(text, stacklevel=2)
    except Exception:
        # Under `python -W error` a warning is an exception, and one that leaves this function aborts the process.
        print(text, file=sys.stderr)
