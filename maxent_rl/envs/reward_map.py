"""What an environment may tell for a picture: how it pays over a line or a plane, and where its right answers lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maxent_rl.types import Array


@dataclasses.dataclass(frozen=True)
class RewardMap:
    """Reward over a line or a plane, with several points that are equally good.

    Attributes:
      over: whether the points are an episode's actions or its observations.
      value: rewards [...] of points [..., axis].
      label: what these rewards are, in words.
      optima: the right answers, each a point.
      noun: what one of them is called.
      radius: how near an optimum a point counts as having reached it.
      edge: points lie within [-edge, edge].
      names: of the axes, one or two.
    """

    over: Literal["action", "observation"]
    value: Callable[[Array], Array]
    label: str
    optima: tuple[tuple[float, ...], ...]
    noun: str
    radius: float
    edge: float
    names: tuple[str, ...]

    def reached(self, points: ArrayLike) -> NDArray[np.int64]:
        """[...] index of the optimum that points [..., axis] have reached; -1 for none."""
        gaps = np.asarray(points)[..., None, :] - np.array(self.optima)
        distances = np.linalg.norm(gaps, axis=-1)
        return np.where(distances.min(axis=-1) < self.radius, distances.argmin(axis=-1), -1)


@runtime_checkable
class HasRewardMap(Protocol):
    """An environment that can be drawn as a landscape of rewards."""

    @property
    def reward_map(self) -> RewardMap:
        """What it pays, and where."""
        ...
