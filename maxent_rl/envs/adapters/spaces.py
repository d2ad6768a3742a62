"""From Gymnasium's spaces to `Spec`: what of them the library handles is decided here, at the door."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from maxent_rl.errors import IncompatibleEnvironmentError
from maxent_rl.spaces import Space
from maxent_rl.types import Spec


def spec_of_spaces(observed: spaces.Space[Any], acted: spaces.Space[Any], name: str, horizon: int) -> Spec:
    """What agents must know of an environment with these spaces.

    Args:
      observed: of one environment's observations.
      acted: of its actions.
      name: for messages.
      horizon: the most steps of an episode.

    Raises:
      IncompatibleEnvironmentError: saying what was expected and what came.
    """
    observation, action = observation_space(observed, name), action_space(acted, name)
    known: dict[str, Any] = {"observation_space": observation, "action_space": action}
    if action.kind == "box":
        return Spec((observation.size,), (len(action.low or ()),), horizon, **known)
    if action.kind == "discrete":
        return Spec((observation.size,), (), horizon, num_actions=action.sizes[0], **known)
    return Spec((observation.size,), (len(action.sizes),), horizon, choices=action.sizes, **known)


def observation_space(space: spaces.Space[Any], name: str, part: str = "") -> Space:
    """What an environment observes: numbers, choices, or Dicts and Tuples of them.

    Args:
      space: Gymnasium's.
      name: of the environment, for messages.
      part: which part of the observation it is; empty for all of it.

    Raises:
      IncompatibleEnvironmentError: other spaces, and empty ones.
    """
    parts: list[tuple[str, spaces.Space[Any]]] = []
    if isinstance(space, spaces.Dict):
        parts = [(str(key), each) for key, each in space.spaces.items()]
    elif isinstance(space, spaces.Tuple):
        parts = [(str(index), each) for index, each in enumerate(space.spaces)]
    if parts:
        within = tuple(observation_space(each, name, f"{part}.{key}" if part else key) for key, each in parts)
        if isinstance(space, spaces.Tuple):
            return Space("tuple", parts=within)
        return Space("dict", names=tuple(key for key, _ in parts), parts=within)
    if isinstance(space, spaces.Box) and np.dtype(space.dtype).kind in "fiub" and np.prod(space.shape):
        return Space("box", space.shape, np.dtype(space.dtype).name)
    choices = _choices(space)
    if choices is None:
        where = f" as its part {part!r}" if part else ""
        raise IncompatibleEnvironmentError(
            f"{name} observes {_described(space)}{where}; expected numbers: a Box that is not empty, Discrete, "
            "MultiDiscrete or MultiBinary, or a Dict or Tuple of them."
        )
    return choices


def action_space(space: spaces.Space[Any], name: str) -> Space:
    """What an environment takes as actions: real numbers within finite bounds, or one choice or several.

    Raises:
      IncompatibleEnvironmentError: other spaces, empty ones, and a Box without bounds.
    """
    choices = _choices(space)
    if choices is not None:
        return choices
    if not isinstance(space, spaces.Box) or np.dtype(space.dtype).kind != "f":
        raise IncompatibleEnvironmentError(
            f"{name} takes actions from {_described(space)}; expected a Box of real numbers, Discrete, MultiDiscrete or "
            "MultiBinary."
        )
    low, high = np.ravel(space.low).astype(float), np.ravel(space.high).astype(float)
    if not low.size:
        raise IncompatibleEnvironmentError(f"{name} takes actions without entries; expected one entry at least.")
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise IncompatibleEnvironmentError(
            f"{name} has actions without finite bounds ({low.min()} to {high.max()}); expected finite ones, to which "
            "[-1, 1] is rescaled. Give its action_space bounds, or wrap it in gymnasium.wrappers.RescaleAction."
        )
    if (low > high).any():
        entry = int(np.argmax(low > high))
        raise IncompatibleEnvironmentError(
            f"{name} has actions whose entry {entry} is at least {low[entry]:g} and at most {high[entry]:g}; expected an "
            "upper bound that is not below the lower one."
        )
    return Space("box", space.shape, np.dtype(space.dtype).name, tuple(low.tolist()), tuple(high.tolist()))


def _choices(space: spaces.Space[Any]) -> Space | None:
    """A space of choices; None for others."""
    if isinstance(space, spaces.Discrete):
        return Space("discrete", (), np.dtype(space.dtype).name, sizes=(int(space.n),), start=(int(space.start),))
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.size:
        sizes, start = (tuple(np.ravel(each).astype(int).tolist()) for each in (space.nvec, space.start))
        return Space("multi_discrete", space.nvec.shape, np.dtype(space.dtype).name, sizes=sizes, start=start)
    if isinstance(space, spaces.MultiBinary) and np.prod(space.shape):
        count = int(np.prod(space.shape))
        dtype = np.dtype(space.dtype).name
        return Space("multi_binary", space.shape, dtype, sizes=(2,) * count, start=(0,) * count)
    return None


def _described(space: Any) -> str:
    if not isinstance(space, spaces.Space):
        return f"{space!r}, which is no space of Gymnasium's"
    return f"a {type(space).__name__} space of shape {space.shape} and type {space.dtype}"
