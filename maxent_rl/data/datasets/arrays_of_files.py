"""From the arrays of a file to pieces of a data set: types, shapes, and where episodes end.

The arrays are those of D4RL's files: `observations`, `actions`, `rewards`, `terminals`, and, in many of them, `timeouts` and
`next_observations`. What a file lacks is derived where that can be done without guessing:

- Without `next_observations` a step leads to the observation of the row below it. The last step of an episode that did not
  terminate is left out, as what it led to is not in the file, and so its reward; a time limit then cuts the episode one step
  earlier. After a terminal step nothing counts, and its own observation stands for what it led to.
- Without `timeouts` an episode was cut where a step did not lead to the observation of the row below it.
- With neither nobody can tell where time limits cut, and the file is refused.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.units import counted_choices, told_space
from maxent_rl.errors import DataError
from maxent_rl.spaces import Space

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
_TOLERANCE, _SMALLEST = 1e-5, 1e-6


class Column(Protocol):
    """An array of a file, read from its first row to its last."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all of it."""
        ...

    def read(self, count: int) -> NDArray[Any]:
        """The next `count` rows, [count, ...]."""
        ...


def same_observation(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
    """[N] whether two observations [N, observation] are the same, but for rounding: 1e-5 of their size."""
    if np.array_equal(first, second):
        return np.ones(len(first), bool)
    same: NDArray[np.bool_] = np.isclose(first, second, rtol=_TOLERANCE, atol=_SMALLEST).all(axis=1)
    return same


def to_observations(array: NDArray[Any], name: str, what: str = "observations") -> NDArray[np.float32]:
    """[N, ...] numbers as [N, observation].

    Args:
      array: as it stands in the file.
      name: of the file, for messages.
      what: of the array.

    Raises:
      DataError: they are no numbers, or have no entries.
    """
    if array.ndim < 2 or not math.prod(array.shape[1:]):
        raise DataError(f"{name} has {what} of shape {array.shape}; expected [N, entries].")
    return _numbers(array, name, what).reshape(len(array), -1)


def to_actions(array: NDArray[Any], name: str, space: Space | None = None) -> NDArray[np.float32] | NDArray[np.int32]:
    """[N, ...] real numbers as [N, action]; whole ones, which are choices, as [N], or [N, entry] where the space says so.

    Args:
      array: as it stands in the file.
      name: of the file, for messages.
      space: of the actions, where the file tells of it; else choices count from 0, one for each step.

    Raises:
      DataError: they are neither, or none of the space's.
    """
    if array.dtype.kind in "iu" and space is not None and space.kind != "box":
        return counted_choices(array, space, name)
    if array.dtype.kind in "iu":
        if array.ndim != 1 and array.shape[1:] != (1,):
            raise DataError(
                f"{name} has actions of shape {array.shape} and type {array.dtype}; expected one whole number for each "
                "step, or real numbers."
            )
        if array.size and (array.min() < 0 or array.max() >= 2**31):
            wrong = array.min() if array.min() < 0 else array.max()
            raise DataError(f"{name} has the action {wrong}; discrete actions count from 0.")
        return array.reshape(len(array)).astype(np.int32)
    numbers = _numbers(array, name, "actions")
    alone = space is not None and space.kind == "box" and not space.shape
    if (array.ndim < 2 and not alone) or not math.prod(array.shape[1:]):
        raise DataError(
            f"{name} has actions of shape {array.shape} and type {array.dtype}; expected [N, entries], or whole numbers [N] "
            "for discrete ones."
        )
    return numbers.reshape(len(numbers), -1)


def to_rewards(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    """[N] or [N, 1] numbers as [N].

    Raises:
      DataError: they have another shape, or are no numbers.
    """
    return _numbers(_flat(array, name, "rewards"), name, "rewards")


def to_flags(array: NDArray[Any], name: str, what: str) -> NDArray[np.bool_]:
    """[N] or [N, 1] zeros and ones as [N].

    Raises:
      DataError: they have another shape, or hold something else.
    """
    array = _flat(array, name, what)
    if array.dtype == bool:
        return array
    numbers = _numbers(array, name, what)
    wrong = np.flatnonzero((numbers != 0) & (numbers != 1))
    if len(wrong):
        raise DataError(f"{name} has {what} of {numbers[wrong[0]]:g}; expected 0 or 1.")
    return numbers.astype(bool)


def _flat(array: NDArray[Any], name: str, what: str) -> NDArray[Any]:
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise DataError(f"{name} has {what} of shape {array.shape}; expected one number for each step.")
    return array.reshape(len(array))


def _numbers(array: NDArray[Any], name: str, what: str) -> NDArray[np.float32]:
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} has {what} of type {array.dtype}; expected numbers.")
    with np.errstate(over="ignore"):  # what becomes infinite is found by whoever checks for that
        return array.astype(np.float32)


@dataclasses.dataclass
class _Rows:
    """Consecutive rows of a file, as they stand there; what it lacks is None."""

    observation: NDArray[np.float32]
    action: NDArray[np.float32] | NDArray[np.int32]
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_] | None
    next_observation: NDArray[np.float32] | None


def column_pieces(
    columns: Mapping[str, Column], path: Path, size: int | None, env: str | None, about: dict[str, Any]
) -> Iterator[Dataset]:
    """Goes over a file of arrays once.

    Args:
      columns: the arrays that it has, of `REQUIRED` and `OPTIONAL`, at their first rows.
      path: of the file, for messages.
      size: the most transitions of a piece; None for all in one.
      env: name of the environment, if the file says it.
      about: how the data was made.

    Raises:
      DataError: arrays of wrong or different shapes or types, or nobody can tell where episodes end.
    """
    total, space = _check_sizes(columns, path), told_space(about, "action_space")
    size = total if size is None else size
    held: _Rows | None = None  # the last row read: the row below decides how its episode goes on
    position = 0
    while position < total:
        count = min(size, total - position)
        rows = _read(columns, count, str(path), space)
        position += count
        rows = rows if held is None else _each(lambda old, new: np.concatenate([old, new]), held, rows)
        piece = _transitions(rows, position == total)
        for first in range(0, len(piece["reward"]), size):  # with the row held back it may be one too many
            yield Dataset(**{key: array[first : first + size] for key, array in piece.items()}, env=env, about=about)
        held = _each(lambda array: array[-1:].copy(), rows)


def _check_sizes(columns: Mapping[str, Column], path: Path) -> int:
    """The number of rows, which all arrays must have."""
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise DataError(f"{path} has no {', '.join(missing)}; expected the arrays {', '.join(REQUIRED)}.")
    if not any(name in columns for name in OPTIONAL):
        raise DataError(
            f"{path} has neither timeouts nor next_observations, so that nobody can tell where time limits cut episodes: "
            "add one of them."
        )
    shapes = {name: tuple(columns[name].shape) for name in (*REQUIRED, *OPTIONAL) if name in columns}
    sizes = {shape[0] if shape else None for shape in shapes.values()}
    if len(sizes) > 1 or None in sizes:
        told = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise DataError(
            f"{path} has arrays of different lengths: {told}; expected one row for each step in all of them."
        )
    if "next_observations" in shapes and shapes["next_observations"] != shapes["observations"]:
        raise DataError(
            f"{path} has observations of shape {shapes['observations']} and next_observations of shape "
            f"{shapes['next_observations']}; expected the same shape."
        )
    return int(sizes.pop() or 0)


def _read(columns: Mapping[str, Column], count: int, name: str, space: Space | None) -> _Rows:
    read = {key: column.read(count) for key, column in columns.items() if key in (*REQUIRED, *OPTIONAL)}
    timeouts, following = read.get("timeouts"), read.get("next_observations")
    return _Rows(
        observation=to_observations(read["observations"], name),
        action=to_actions(read["actions"], name, space),
        reward=to_rewards(read["rewards"], name),
        terminated=to_flags(read["terminals"], name, "terminals"),
        truncated=None if timeouts is None else to_flags(timeouts, name, "timeouts"),
        next_observation=None if following is None else to_observations(following, name, "next_observations"),
    )


def _each(function: Callable[..., NDArray[Any]], *rows: _Rows) -> _Rows:
    """A function of each array that the file has."""
    arrays: dict[str, Any] = {
        field.name: None if vars(rows[0])[field.name] is None else function(*(vars(each)[field.name] for each in rows))
        for field in dataclasses.fields(_Rows)
    }
    return _Rows(**arrays)


def _transitions(rows: _Rows, is_last: bool) -> dict[str, NDArray[Any]]:
    """The transitions of rows of which, unless they are the file's last ones, the last is only looked at."""
    total = len(rows.reward)
    count = total if is_last else total - 1
    following, truncated = rows.next_observation, rows.truncated
    kept = np.arange(total) < count
    if following is None:
        assert truncated is not None
        following, truncated, lost = _derived(rows.observation, rows.terminated, truncated, is_last)
        kept &= ~lost
    elif truncated is None:
        goes_on = np.append(same_observation(following[:-1], rows.observation[1:]), True)
        truncated = ~goes_on & ~rows.terminated
    arrays = {
        "observation": rows.observation,
        "action": rows.action,
        "reward": rows.reward,
        "next_observation": following,
        "terminated": rows.terminated,
        "truncated": truncated,
    }
    return arrays if kept.all() else {key: array[kept] for key, array in arrays.items()}


def _derived(
    observation: NDArray[np.float32], terminated: NDArray[np.bool_], truncated: NDArray[np.bool_], is_last: bool
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """What each step led to by the row below it, where episodes are cut then, and which rows have nothing to lead to."""
    below = np.concatenate([observation[1:], observation[-1:]])
    following = np.where(terminated[:, None], observation, below)
    lost = truncated & ~terminated
    cut = np.append(lost[1:], False) & ~terminated & ~truncated
    if is_last:
        lost[-1] |= not terminated[-1]
    return following, cut | (truncated & terminated), lost
