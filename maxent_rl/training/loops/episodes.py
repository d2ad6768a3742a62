"""Episode statistics: our own, because wrappers that keep them have been wrong at resets.

The same arithmetic serves NumPy arrays in the host loop and traced arrays in the device loop.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from flax import struct
from numpy.typing import NDArray


@struct.dataclass
class Episodes:
    """Running and finished episodes of all seeds.

    Attributes:
      running_return: [seed, env] undiscounted return of the running episode so far.
      running_length: [seed, env] its steps so far.
      finished_return: [seed] sum of the returns of episodes finished since last taken.
      finished_length: [seed] sum of their lengths.
      finished: [seed] their number.
    """

    running_return: Any
    running_length: Any
    finished_return: Any
    finished_length: Any
    finished: Any

    @classmethod
    def start(cls, num_seeds: int, num_envs: int) -> Episodes:
        """Nothing has run yet (NumPy arrays, float32)."""
        each, total = np.zeros((num_seeds, num_envs), np.float32), np.zeros((num_seeds,), np.float32)
        return cls(each, each, total, total, total)

    def add(self, reward: Any, done: Any) -> Episodes:
        """Takes in one step: `reward` and `done` are [seed, env]."""
        done = done.astype(np.float32)
        running_return, running_length = self.running_return + reward, self.running_length + 1
        return Episodes(
            running_return=running_return * (1 - done),
            running_length=running_length * (1 - done),
            finished_return=self.finished_return + (running_return * done).sum(axis=-1),
            finished_length=self.finished_length + (running_length * done).sum(axis=-1),
            finished=self.finished + done.sum(axis=-1),
        )

    def take(self) -> tuple[Episodes, list[dict[str, float]]]:
        """Gives each seed's mean return and length of finished episodes (none, if none finished), and starts anew."""
        sums = np.asarray([self.finished_return, self.finished_length])
        counts = np.asarray(self.finished)
        rows = [
            {"episode/return": float(total / count), "episode/length": float(length / count)} if count else {}
            for total, length, count in zip(*sums, counts, strict=True)
        ]
        # Three arrays, not one thrice: the device loop donates each of them.
        zeros = {name: getattr(self, name) * 0 for name in ("finished_return", "finished_length", "finished")}
        return dataclasses.replace(self, **zeros), rows


class Successes:
    """The share of finished episodes that were solved, of host environments that tell; nothing of others.

    It is apart from `Episodes` because only steps can tell whether an environment tells.
    """

    def __init__(self, num_seeds: int) -> None:
        """Nothing has been told yet."""
        self._solved, self._told = np.zeros(num_seeds, np.float32), np.zeros(num_seeds, np.float32)

    def add(self, success: NDArray[np.float32], done: NDArray[np.bool_]) -> None:
        """Takes in one step: both are [seed, env], the former as in `HostStep`."""
        ended = done & ~np.isnan(success)
        self._solved += np.where(ended, success, 0.0).sum(axis=-1)
        self._told += ended.sum(axis=-1)

    def take(self) -> list[dict[str, float]]:
        """Gives each seed's share (none, if no episode told), and starts anew."""
        pairs = zip(self._solved, self._told, strict=True)
        rows = [{"episode/success_rate": float(solved / told)} if told else {} for solved, told in pairs]
        self._solved, self._told = self._solved * 0, self._told * 0
        return rows

    def get_state(self) -> dict[str, Any]:
        """The sums, [seed] each."""
        return {"solved": self._solved.copy(), "told": self._told.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` gave."""
        self._solved, self._told = state["solved"].copy(), state["told"].copy()
