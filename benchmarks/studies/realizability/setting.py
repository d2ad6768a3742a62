"""What is drawn, and how much of it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from benchmarks.lab.study import Unit

STATES, ACTIONS, FEATURES, DISCOUNT = 20, 2, 5, 0.9
PAIRS = STATES * ACTIONS
EDGES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.9999)
"""Of the ranges of beta."""
KINDS = ("random", "smoothed")
PROCESSES = "random processes"


@dataclasses.dataclass(frozen=True)
class Realizability:
    """How many processes, and how much data of each."""

    tries: int = 10_000
    """Processes that are drawn."""
    kept: int = 8
    """Processes of each range of beta that are learned from."""
    datasets: int = 100
    """Data sets of each process."""
    transitions: int = 500
    """Transitions of each data set."""

    part: ClassVar[str] = "realizability"

    def units(self) -> list[Unit]:
        """One for each kind of features."""
        return [Unit(PROCESSES, kind, (), dataclasses.asdict(self)) for kind in KINDS]
