"""Returns and lengths of the episodes of a data set, from chunks that may cut episodes anywhere."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.passes import Source, chunks_of
from maxent_rl.data.measures.coverage import Floats


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What is said of a set of numbers; NaN where there are none."""

    count: int
    minimum: float
    first_quartile: float
    median: float
    third_quartile: float
    maximum: float
    mean: float
    standard_deviation: float

    @classmethod
    def of(cls, values: NDArray[np.number]) -> Distribution:
        """Describes values [n]; the standard deviation is that of the n values themselves (divided by n)."""
        if not len(values):
            nan = math.nan
            return cls(0, nan, nan, nan, nan, nan, nan, nan)
        low, first, middle, third, high = map(float, np.quantile(values, [0.0, 0.25, 0.5, 0.75, 1.0]))
        return cls(len(values), low, first, middle, third, high, float(values.mean()), float(values.std()))


@dataclasses.dataclass(frozen=True)
class EpisodeRecord:
    """The episodes of a data set, in order. Only complete ones count: a tail without an end has no return.

    Attributes:
      returns: [episodes] of the complete ones.
      lengths: [episodes] their transitions.
      time_limits: how many of them a time limit cut.
      tail: transitions after the last end.
      size: transitions in all.
    """

    returns: Floats
    lengths: NDArray[np.int64]
    time_limits: int
    tail: int
    size: int

    @property
    def mean_return(self) -> float:
        """g(D), the mean return of the complete episodes; NaN where there are none."""
        return float(self.returns.mean()) if len(self.returns) else math.nan


def record_episodes(source: Source, discount: float = 1.0) -> EpisodeRecord:
    """Adds up the rewards of each episode.

    Args:
      source: the data set or its chunks.
      discount: factor of later rewards; 1 in the paper's tables.
    """
    returns: list[Floats] = []
    lengths: list[NDArray[np.int64]] = []
    carried, steps, time_limits, size = 0.0, 0, 0, 0
    for chunk in chunks_of(source):
        found, length, carried, steps = _of_chunk(chunk, discount, carried, steps)
        returns.append(found)
        lengths.append(length)
        time_limits += int(np.count_nonzero(chunk.truncated & ~chunk.terminated))
        size += chunk.size
    none = np.zeros(0)
    return EpisodeRecord(
        np.concatenate([none, *returns]), np.concatenate([none.astype(np.int64), *lengths]), time_limits, steps, size
    )


def _of_chunk(
    chunk: Dataset, discount: float, carried: float, steps: int
) -> tuple[Floats, NDArray[np.int64], float, int]:
    """Returns and lengths of the episodes that end in a chunk, and what the one that goes on has until now."""
    ends = np.flatnonzero(chunk.terminated | chunk.truncated)
    start = np.concatenate([[0], ends + 1])
    reward = chunk.reward.astype(np.float64)
    if discount != 1.0:
        place = np.arange(chunk.size) - np.repeat(start, np.diff(np.append(start, chunk.size)))
        place[: start[1] if len(start) > 1 else chunk.size] += steps
        reward *= discount**place
    # The last part may be empty, which reduceat knows no sum of.
    sums = np.add.reduceat(np.append(reward, 0.0), start)
    length = np.diff(np.append(start, chunk.size))
    sums[0], length[0] = sums[0] + carried, length[0] + steps
    return sums[:-1], length[:-1], float(sums[-1]), int(length[-1])
