"""How an environment itself writes observations and actions, and how agents have them: the one rule, for both directions.

Agents see one vector of float32, and act with numbers in [-1, 1] or with whole numbers from 0. Training, exported policies,
collected data and Minari files all go through here, so that an action means the same to all of them.

An observation becomes a vector by this rule. A Box gives its entries in C order; a Discrete one-hot entries; a MultiDiscrete
those of each of its entries; a MultiBinary its bits; a Dict its parts in the space's own order of keys (Gymnasium sorts
them), a Tuple its parts in order, each by the same rule. Images come last, each with its channels last: entries that are no
image, then images, both in the order of the space. An image is a Box of uint8 with two axes, or three of which the first or
the last has at most four entries; its entries stay 0 to 255.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maxent_rl.errors import IncompatibleEnvironmentError

Kind: TypeAlias = Literal["box", "discrete", "multi_discrete", "multi_binary", "dict", "tuple"]
Frame: TypeAlias = tuple[int, int, int]
"""Height, width and channels of an image."""

_MOST_CHANNELS = 4


def is_size(value: Any) -> bool:
    """Whether a value is a whole number that something can have of entries, steps or choices: from 0, in 31 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


@dataclasses.dataclass(frozen=True)
class Goals:
    """Where the goals stand in the vector that a goal environment's observation becomes; hashable.

    Attributes:
      achieved: first entry of the goal that was reached, and the one after its last.
      desired: of the goal that was wanted, of the same size.
      shape: of one goal as the environment writes it.
      dtype: NumPy's name of its entries' type.
    """

    achieved: tuple[int, int]
    desired: tuple[int, int]
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Space:
    """What an environment's space says, as JSON can hold it.

    Attributes:
      kind: which of Gymnasium's spaces.
      shape: of one value; () for a Dict or a Tuple.
      dtype: NumPy's name of the entries' type.
      low: least value of each entry of a Box, in C order; None where nobody needs it, as of observations.
      high: largest values.
      sizes: number of choices of each entry of a Discrete, MultiDiscrete or MultiBinary.
      start: what the environment calls the first choice of each entry.
      names: keys of a Dict, in its own order.
      parts: spaces of a Dict or a Tuple.
    """

    kind: Kind
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    sizes: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    parts: tuple[Space, ...] = ()

    @classmethod
    def of(cls, values: dict[str, Any]) -> Space:
        """From what `dataclasses.asdict` made of one, also after a way through JSON.

        Raises:
          TypeError, ValueError, AttributeError: it is none.
        """
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        parts = tuple(part if isinstance(part, Space) else cls.of(part) for part in values.get("parts", ()))
        space = cls(**fields | {"parts": parts})
        space._check()
        return space

    def _check(self) -> None:
        """Refuses what no environment has.

        Raises:
          TypeError, ValueError: it does not hang together.
        """
        if self.kind not in typing.get_args(Kind) or np.dtype(self.dtype).kind not in "fiub":
            raise ValueError(f"there is no space {self.kind!r} of {self.dtype!r}")
        if not all(map(is_size, (*self.shape, *self.sizes))) or not all(isinstance(each, int) for each in self.start):
            raise ValueError("its shape, choices and their beginnings are whole numbers")
        entries = math.prod(self.shape)
        for bound in (self.low, self.high):
            if bound is not None and len(np.asarray(bound, np.float64)) != entries:
                raise ValueError(f"a bound for each of its {entries} entries is needed")
        if self.kind in ("discrete", "multi_discrete") and not len(self.sizes) == len(self.start) == max(entries, 1):
            raise ValueError("the number of choices of each of its entries is needed")
        if len(self.names) not in (0, len(self.parts)) or not all(isinstance(name, str) for name in self.names):
            raise ValueError("each of its parts has a name, or none has")

    @functools.cached_property
    def frame(self) -> Frame | None:
        """Height, width and channels where values are images; None where they are not."""
        if self.kind != "box" or self.dtype != "uint8" or len(self.shape) not in (2, 3):
            return None
        if len(self.shape) == 2:
            return (*self.shape, 1)
        first, second, third = self.shape
        if third <= _MOST_CHANNELS:
            return first, second, third
        return (second, third, first) if first <= _MOST_CHANNELS else None

    @functools.cached_property
    def channels_first(self) -> bool:
        """Whether values are images whose channels stand first."""
        return self.frame is not None and len(self.shape) == 3 and self.frame != self.shape

    @functools.cached_property
    def leaves(self) -> tuple[tuple[str, Space], ...]:
        """All parts that have none themselves, with their names, in the order in which they enter the vector."""
        found = list(self._leaves(""))
        return (*(leaf for leaf in found if leaf[1].frame is None), *(leaf for leaf in found if leaf[1].frame))

    @functools.cached_property
    def frames(self) -> tuple[Frame, ...]:
        """Of all images, in the order in which they enter the vector."""
        return tuple(leaf.frame for _, leaf in self.leaves if leaf.frame is not None)

    @functools.cached_property
    def places(self) -> dict[str, tuple[int, int]]:
        """First entry in the vector of each of `leaves`, and the one after its last, by its name."""
        found, first = {}, 0
        for name, leaf in self.leaves:
            found[name] = (first, first + leaf.size)
            first += leaf.size
        return found

    @functools.cached_property
    def goals(self) -> Goals | None:
        """Where goals stand in the vector; None where this is not what a goal environment observes.

        That is a Dict whose parts achieved_goal and desired_goal are arrays of one shape, no images, as gymnasium-robotics'
        `GoalEnv` has it.
        """
        parts = dict(zip(self.names, self.parts, strict=False))
        achieved, desired = parts.get("achieved_goal"), parts.get("desired_goal")
        if achieved is None or desired is None or (achieved.kind, achieved.shape) != ("box", desired.shape):
            return None
        if desired.kind != "box" or achieved.frame is not None or desired.frame is not None:
            return None
        return Goals(self.places["achieved_goal"], self.places["desired_goal"], desired.shape, desired.dtype)

    @functools.cached_property
    def size(self) -> int:
        """Entries of the vector that agents see."""
        if self.parts:
            return sum(part.size for part in self.parts)
        if self.kind in ("discrete", "multi_discrete"):
            return sum(self.sizes)
        return math.prod(self.shape)

    def _leaves(self, name: str) -> Iterator[tuple[str, Space]]:
        if not self.parts:
            yield name, self
        for key, part in zip(self.names or map(str, range(len(self.parts))), self.parts, strict=True):
            yield from part._leaves(f"{name}.{key}" if name else key)


def flatten(space: Space, observed: Any, giver: str) -> NDArray[np.float32]:
    """Observations as agents see them.

    Args:
      space: of the environment.
      observed: one observation, or arrays with the same leading axes [...] in all of its parts.
      giver: who gave them, as messages begin: "Pendulum-v1 gave".

    Returns:
      [..., observation].

    Raises:
      IncompatibleEnvironmentError: it is not of the space.
    """
    if not space.parts and space.frame is None and space.kind == "box":
        return _entries(space, observed, giver, "an observation")
    values = dict(_values(space, observed, giver, ""))
    parts = [_entries(leaf, values[path], giver, _called(path)) for path, leaf in space.leaves]
    if len({part.shape[:-1] for part in parts}) > 1:
        told = ", ".join(f"{path} {np.shape(values[path])}" for path, _ in space.leaves)
        raise IncompatibleEnvironmentError(f"{giver} parts of an observation with different leading axes: {told}.")
    return np.concatenate(parts, axis=-1)


def _values(space: Space, observed: Any, giver: str, path: str) -> Iterator[tuple[str, Any]]:
    """What was observed in each leaf, by its name."""
    if not space.parts:
        yield path, observed
        return
    keys: list[Any] = list(space.names) if space.kind == "dict" else list(range(len(space.parts)))
    given = list(observed) if isinstance(observed, dict) else list(range(len(observed))) if _is_row(observed) else None
    if given is None or isinstance(observed, dict) != (space.kind == "dict") or not set(keys) <= set(given):
        wanted = f"a dict with {', '.join(map(str, keys))}" if space.kind == "dict" else f"a tuple of {len(keys)} parts"
        got = (
            f"a dict with {', '.join(map(str, given or ()))}" if isinstance(observed, dict) else type(observed).__name__
        )
        raise IncompatibleEnvironmentError(f"{giver} {got} as {_called(path)}; expected {wanted}.")
    for key, part in zip(keys, space.parts, strict=True):
        yield from _values(part, observed[key], giver, f"{path}.{key}" if path else str(key))


def _is_row(observed: Any) -> bool:
    return isinstance(observed, (tuple, list))


def _called(path: str) -> str:
    return f"the part {path!r} of an observation" if path else "an observation"


def _entries(space: Space, observed: Any, giver: str, what: str) -> NDArray[np.float32]:
    """[..., entries] of a leaf."""
    try:
        array = np.asarray(observed)
        if array.dtype.kind not in "fiub":
            raise ValueError
    except Exception as error:  # whatever the conversion of a foreign type raises, as of a tensor that wants gradients
        raise IncompatibleEnvironmentError(
            f"{giver} {type(observed).__name__} as {what}; expected numbers of shape {space.shape}."
        ) from error
    axes = len(space.shape)
    if array.ndim < axes or array.shape[array.ndim - axes :] != space.shape:
        raise IncompatibleEnvironmentError(
            f"{giver} {what} of shape {array.shape}; expected that of its observation space, {space.shape}."
        )
    leading = array.shape[: array.ndim - axes]
    if space.kind in ("discrete", "multi_discrete"):
        return _one_hot(space, array.reshape(*leading, len(space.sizes)), giver, what)
    if space.channels_first:
        array = np.moveaxis(array, -3, -1)
    return array.reshape(*leading, math.prod(space.shape)).astype(np.float32)


def _one_hot(space: Space, choice: NDArray[Any], giver: str, what: str) -> NDArray[np.float32]:
    counted = choice - np.asarray(space.start)
    if ((counted < 0) | (counted >= np.asarray(space.sizes)) | (counted % 1 != 0)).any():
        raise IncompatibleEnvironmentError(
            f"{giver} {choice.tolist() if choice.size > 1 else choice.item()} as {what}, which is none of its choices."
        )
    parts = [counted[..., entry, None] == np.arange(size) for entry, size in enumerate(space.sizes)]
    return np.concatenate(parts, axis=-1).astype(np.float32)


class ActionRule:
    """Takes an agent's actions to an environment's own units, shape and type, and back."""

    def __init__(self, space: Space) -> None:
        """Reads the bounds.

        Args:
          space: of the environment's actions: a Box with bounds, a Discrete, a MultiDiscrete or a MultiBinary.
        """
        self._shape, self._dtype, self._chooses = space.shape, np.dtype(space.dtype), space.kind != "box"
        self._single = space.kind == "discrete"
        if self._chooses:
            self._start = np.asarray(space.start, np.int64)
            return
        assert space.low is not None and space.high is not None
        self._low, self._high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
        # Halves, here and below: the width itself can be beyond the largest number.
        self._half = self._high / 2.0 - self._low / 2.0

    def to_environment(self, action: NDArray[Any]) -> NDArray[Any]:
        """What the environment's `step` takes.

        Args:
          action: [..., action] in [-1, 1], what lies outside being clipped; [...] whole numbers, or [..., entry] of them.

        Returns:
          [..., *shape] in the space, of its type.
        """
        action = np.asarray(action)
        if self._chooses:
            # A choice may have passed through a buffer of floats.
            start: NDArray[np.int64] = self._start[0] if self._single else self._start
            choices: NDArray[Any] = (action.astype(np.int64) + start).astype(self._dtype)
            return choices if self._single else choices.reshape((*action.shape[:-1], *self._shape))
        share = np.clip(action.astype(np.float64), -1.0, 1.0) / 2.0 + 0.5
        scaled = 2.0 * (self._low / 2.0 + share * self._half)
        # Clipped again after it was rescaled: rounding must not leave the box. Nor does the cast: the bounds are of that type.
        bounded = np.clip(scaled, self._low, self._high).astype(self._dtype)
        commands: NDArray[Any] = bounded.reshape((*action.shape[:-1], *self._shape))
        return commands

    def to_agent(self, command: NDArray[Any]) -> NDArray[Any]:
        """The way back: [..., *shape] to [..., action], not clipped, so that one can see what lies outside.

        An entry that can have one value only is 0.
        """
        command = np.asarray(command)
        if self._single:
            choice: NDArray[Any] = command.astype(np.int64) - self._start[0]
            return choice
        flat = command.reshape((*command.shape[: command.ndim - len(self._shape)], math.prod(self._shape)))
        if self._chooses:
            return flat.astype(np.int64) - self._start
        width = np.where(self._half > 0, self._half, 1.0)
        above = flat.astype(np.float64) / 2.0 - self._low / 2.0
        unclipped: NDArray[Any] = above / width * 2.0 - (self._half > 0)
        return unclipped


@functools.lru_cache(maxsize=64)
def action_rule(space: Space) -> ActionRule:
    """The rule of a space, kept for the next call."""
    return ActionRule(space)


def to_environment(action: NDArray[Any], space: Space | None) -> NDArray[Any]:
    """As `ActionRule.to_environment`; None for an environment that takes what agents give: numbers clipped to [-1, 1]."""
    if space is not None:
        return action_rule(space).to_environment(action)
    action = np.asarray(action)
    return np.clip(action, -1.0, 1.0) if action.dtype.kind == "f" else action


def to_agent(command: ArrayLike, space: Space | None) -> NDArray[Any]:
    """As `ActionRule.to_agent`; None for an environment that takes what agents give."""
    return np.asarray(command) if space is None else action_rule(space).to_agent(np.asarray(command))
