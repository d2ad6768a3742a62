"""gymnasium-robotics: its environments registered when one of them is named, and made to run with newer MuJoCo."""

from __future__ import annotations

import contextlib
import enum
import importlib.util
import io
import re
import types
from typing import Any

from maxent_rl.errors import MissingDependencyError

PACKAGE = "gymnasium_robotics"
_FAMILIES = re.compile(r"(fetch|hand(reach|manipulate)|adroithand|pointmaze|antmaze|frankakitchen)", re.IGNORECASE)
_NOTICE_OF = (
    "AdroitHand"  # what the package says on import of the rewards of some of its environments concerns these alone
)


def is_robotics(name: str) -> bool:
    """Whether an id, with or without version, looks like one of this package's."""
    return _FAMILIES.match(name) is not None


def register_robotics(name: str) -> None:
    """Imports the package, which registers its environments with Gymnasium; may be called any number of times.

    Args:
      name: of the environment that is wanted, for messages.

    Raises:
      MissingDependencyError: it, or something that it needs, is not installed.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise MissingDependencyError(
            f'{name} is an environment of gymnasium-robotics, which is not installed: pip install "maxent_rl[robotics]".'
        )
    said = contextlib.nullcontext() if name.startswith(_NOTICE_OF) else contextlib.redirect_stderr(io.StringIO())
    try:
        with said:
            importlib.import_module(PACKAGE)
            utilities: Any = importlib.import_module(f"{PACKAGE}.utils.mujoco_utils")
    except ImportError as error:
        raise MissingDependencyError(
            f'{name}: gymnasium-robotics cannot be imported ({error}): pip install "maxent_rl[robotics]".'
        ) from error
    _mend_joint_types(utilities)


def _mend_joint_types(utilities: Any) -> None:
    """Has the package compare joint types as the whole numbers that they are.

    It asks whether a type from a model, a NumPy integer, is among MuJoCo's names for hinges and slides. MuJoCo 3.6 says yes;
    in 3.17 and 4.0 a name no longer equals a NumPy integer that stands on the right of `==`, so that the Fetch and Hand
    environments of 1.4.2 fail with an assertion when they are made.
    """
    import mujoco
    import numpy as np

    if mujoco.mjtJoint.mjJNT_SLIDE == np.int32(int(mujoco.mjtJoint.mjJNT_SLIDE)):
        return
    names = [name for name in dir(mujoco.mjtJoint) if name.startswith("mjJNT_")]
    numbers = enum.IntEnum("mjtJoint", {name: int(getattr(mujoco.mjtJoint, name)) for name in names})  # type: ignore[misc]
    utilities.mujoco = types.SimpleNamespace(**vars(mujoco) | {"mjtJoint": numbers})
