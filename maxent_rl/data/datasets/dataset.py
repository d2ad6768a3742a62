"""A data set of transitions as it lies in memory: what happened, in order, episode after episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxent_rl.errors import DataError


class Episodes(NamedTuple):
    """Where the episodes of a data set lie.

    Attributes:
      start: [episodes] index of the first transition of each.
      length: [episodes] transitions of each.
      complete: [episodes] whether it has an end in the data; only the last one can lack it.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    complete: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """N transitions in the order in which they happened, episodes one after the other.

    All is in the environment's own units: real-valued actions are what the environment was given, not rescaled to [-1, 1].
    Choices alone count from 0 here, whatever the environment calls the first; in files they are the environment's
    (`datasets.units`).

    Attributes:
      observation: [N, observation] before the action.
      action: [N, action] float32, or int32 for choices: [N], or [N, entry] where an action makes several.
      reward: [N].
      next_observation: [N, observation] what the action led to; at an episode's end the true last observation.
      terminated: [N] where a terminal state ended the episode.
      truncated: [N] where a time limit cut it; never both.
      env: name of the environment; None where the file does not say.
      about: how it was made, as JSON values.
    """

    observation: NDArray[np.float32]
    action: NDArray[np.float32] | NDArray[np.int32]
    reward: NDArray[np.float32]
    next_observation: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    env: str | None = None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def size(self) -> int:
        """Transitions."""
        return len(self.reward)

    @property
    def is_discrete(self) -> bool:
        """Whether each action is one choice."""
        return self.action.ndim == 1

    @property
    def episodes(self) -> Episodes:
        """Where the episodes lie."""
        ends = np.flatnonzero(self.terminated | self.truncated)
        complete = np.ones(len(ends), bool)
        if self.size and (not len(ends) or ends[-1] != self.size - 1):
            ends, complete = np.append(ends, self.size - 1), np.append(complete, False)
        start = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
        return Episodes(start.astype(np.int64), (ends - start + 1).astype(np.int64), complete)

    @property
    def returns(self) -> NDArray[np.float64]:
        """[complete episodes] undiscounted returns."""
        start, _, complete = self.episodes
        if not len(start):
            return np.zeros(0)
        return np.add.reduceat(self.reward.astype(np.float64), start)[complete]

    def part(self, first: int, last: int) -> Dataset:
        """Transitions `first` up to, but not with, `last`; views, not copies."""
        return dataclasses.replace(self, **{name: getattr(self, name)[first:last] for name in ARRAYS})


ARRAYS = ("observation", "action", "reward", "next_observation", "terminated", "truncated")
"""The arrays of a data set, by their names."""


def join(parts: Sequence[Dataset]) -> Dataset:
    """One after the other, with what the first one says of itself."""
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
    return dataclasses.replace(parts[0], **joined)


def concatenate(sets: Sequence[Dataset]) -> Dataset:
    """Data sets of one environment as one; an episode that one of them leaves unfinished counts as cut there.

    What they say of themselves is kept where all say the same.

    Raises:
      DataError: none, or sets of different environments or shapes.
    """
    if not sets:
        raise DataError("There is no data set to join.")
    kinds = {(each.env, each.observation.shape[1:], each.action.shape[1:], each.is_discrete) for each in sets}
    if len(kinds) > 1:
        found = "; ".join(
            f"{env or 'an environment without a name'} with observations {seen} and "
            f"{'discrete actions' if discrete else f'actions {done}'}"
            for env, seen, done, discrete in sorted(kinds, key=str)
        )
        raise DataError(f"Only data sets of one environment can be joined, these are of {found}.")
    closed = []
    for each in sets[:-1]:
        truncated = each.truncated.copy()
        truncated[-1:] |= ~each.terminated[-1:]
        closed.append(dataclasses.replace(each, truncated=truncated))
    about = {key: value for key, value in sets[0].about.items() if all(each.about.get(key) == value for each in sets)}
    return dataclasses.replace(join([*closed, sets[-1]]), about=about)
