"""MuJoCo's warnings: the ones that concern a user as Python warnings, and no files in the working directory.

MuJoCo 4 writes each warning to the terminal and to `MUJOCO_LOG.TXT` in the working directory. One of them, that
`settotalmass` is deprecated, is about a model file that ships with Gymnasium and Brax: no user can do anything about it.
"""

from __future__ import annotations

import warnings

_NOT_FOR_USERS = "'settotalmass' is deprecated"


def quiet_mujoco() -> None:
    """Turns MuJoCo's warnings into Python's, but for the one about `settotalmass`; a handler that is set already stays."""
    import mujoco

    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_warn)


def _warn(message: str) -> None:
    if _NOT_FOR_USERS not in message:
        warnings.warn(f"MuJoCo: {message.strip()}", stacklevel=2)
