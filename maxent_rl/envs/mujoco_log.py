"""MuJoCo's warnings: the ones that concern a user as Python warnings, and no files in the working directory.

MuJoCo writes each warning to the terminal and to `MUJOCO_LOG.TXT` in the working directory. One of them, that
`settotalmass` is deprecated, is about model files that ship with Gymnasium and Brax: no user can do anything about it.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

_NOT_FOR_USERS = "'settotalmass' is deprecated"
_LOG_FILE = "MUJOCO_LOG.TXT"


def quiet_mujoco() -> None:
    """Turns MuJoCo's warnings into Python's, but for the one about `settotalmass`, and keeps its log file away.

    A warning handler or a log file that somebody has chosen stays. May be called any number of times.
    """
    import mujoco

    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_warn)
    _without_file(mujoco)


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
