"""The actions and observations of data sets as environments write them, which is how files hold them.

A data set says what the environment's spaces are in `about["action_space"]` and `about["observation_space"]`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.errors import DataError
from maxent_rl.spaces import Space, action_rule, to_environment


def told_space(about: dict[str, Any], what: str) -> Space | None:
    """A space that a data set tells of: `what` is "action_space" or "observation_space"; None where it does not.

    Raises:
      DataError: it tells of something that is no space.
    """
    told = about.get(what)
    if told is None:
        return None
    try:
        return Space.of(told)
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"A data set describes its {what} as {told!r}, which is no space.") from error


def stored_actions(action: NDArray[Any], space: Space | None) -> NDArray[np.float32] | NDArray[np.int32]:
    """An agent's actions as a `Dataset` has them.

    Args:
      action: [N, action] in [-1, 1]; choices, [N] or [N, entry], also as floats.
      space: of the environment's actions; None where it takes what agents give, numbers or, [N], choices.
    """
    chooses = action.ndim == 1 if space is None else space.kind != "box"
    if chooses:
        return action.astype(np.int32)
    return to_environment(action, space).reshape(action.shape).astype(np.float32)


def written_actions(data: Dataset) -> NDArray[Any]:
    """Actions as the environment's `step` takes them, in its units, shape and type: [N, ...].

    Where the data set does not tell of the space they are as they lie in memory.
    """
    space = told_space(data.about, "action_space")
    if space is None:
        return data.action
    if space.kind != "box":
        return action_rule(space).to_environment(data.action)
    assert space.low is not None and space.high is not None
    # In memory they are float32, which may round beyond bounds of another type.
    bounded = np.clip(data.action.astype(np.float64), space.low, space.high).astype(space.dtype)
    return bounded.reshape(data.size, *space.shape)


def written_observations(data: Dataset, rows: NDArray[np.float32]) -> NDArray[Any]:
    """Observations [n, observation] in the environment's own shape: of a Box; those of other spaces stay vectors."""
    space = told_space(data.about, "observation_space")
    if space is None or space.kind != "box":
        return rows
    if space.channels_first:
        height, width, channels = space.frames[0]
        rows = np.moveaxis(rows.reshape(len(rows), height, width, channels), -1, 1)
    whole = np.dtype(space.dtype).kind in "iub"
    return rows.reshape(len(rows), *space.shape).astype(space.dtype if whole else np.float32)


def stored_observations(rows: NDArray[Any], space: Space | None) -> NDArray[Any]:
    """The way back from `written_observations`, [n, ...] to [n, observation]."""
    if space is not None and space.channels_first and rows.shape[1:] == space.shape:
        rows = np.moveaxis(rows, 1, -1)
    # Observations without an axis are one number each.
    return rows.reshape(len(rows), -1)


def counted_choices(array: NDArray[Any], space: Space, name: str) -> NDArray[np.int32]:
    """Choices as a file has them, counted from 0: [N], or [N, entry] where an action makes several.

    Args:
      array: [N, ...] whole numbers.
      space: of the actions.
      name: of the file, for messages.

    Raises:
      DataError: their shape is not the space's, or one of them is none of its choices.
    """
    size = len(space.sizes)
    if array.size != len(array) * size:
        raise DataError(f"{name} has actions of shape {array.shape}; expected {size} whole numbers for each step.")
    counted = array.reshape(len(array), size).astype(np.int64) - np.asarray(space.start)
    wrong = np.argwhere((counted < 0) | (counted >= np.asarray(space.sizes)))
    if len(wrong):
        step, entry = wrong[0]
        first, count = space.start[entry], space.sizes[entry]
        raise DataError(
            f"{name} has the action {array.reshape(len(array), size)[step, entry]} (step {step}); its action space has "
            f"{first} to {first + count - 1}."
        )
    choices: NDArray[np.int32] = (counted[:, 0] if space.kind == "discrete" else counted).astype(np.int32)
    return choices
