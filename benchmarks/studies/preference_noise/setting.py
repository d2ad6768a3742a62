"""How much everyone learns from, and how the methods are called."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from benchmarks.lab.measure import BenchmarkError
from benchmarks.lab.study import Unit, refuse_unknown
from benchmarks.studies.preference_noise.methods import (
    ALL,
    ANCHOR_TEMPERATURE,
    FLIP_PROBABILITY,
    SCORE_TEMPERATURE,
    Learning,
)
from benchmarks.studies.preference_noise.task import OUTLIER_STD, SCENARIOS, Sizes
from benchmarks.studies.preference_noise.trust import TrustRegion

LABELS = {
    "reference": "reference, not trained further",
    "dpo-hard-0.1": "DPO, hard labels, β 0.1",
    "dpo-hard-1": "DPO, hard labels, β 1",
    "dpo-hard-free": "DPO, hard labels, β 1, no reference",
    "dpo-soft-0.1": "DPO, soft labels, β 0.1",
    "ipo-0.1": "IPO, β 0.1",
    "robust-dpo-0.1": "robust DPO, β 0.1, ε 0.1",
    "pairwise-fixed": "ADPO pairs, fixed anchor",
    "pairwise-dynamic": "ADPO pairs, dynamic anchor",
    "listwise-fixed": "ADPO listwise, fixed anchor",
    "listwise-dynamic": "ADPO listwise, dynamic anchor",
    "kde-fixed": "ADPO KDE, fixed anchor",
    "kde-dynamic": "ADPO KDE, dynamic anchor",
    "ppo": "PPO",
    "trpo": "TRPO",
}
"""Methods as people read them, in the order of the tables."""
DPO = ("dpo-hard-0.1", "dpo-hard-1", "dpo-hard-free")
SHORT = {"dpo-hard-0.1": "DPO β 0.1", "dpo-hard-1": "DPO β 1", "dpo-hard-free": "DPO without reference"}
EVERYONE = "everyone"
"""The contender: all methods learn in one program."""


@dataclasses.dataclass(frozen=True)
class PreferenceNoise:
    """All methods, seeds and scenarios of a size of network are one program."""

    hidden_sizes: tuple[int, ...] = (64, 128, 256)
    """Units of each of the two hidden layers; one program for each entry."""
    num_seeds: int = 10
    """Seeds of each method and scenario."""
    seed: int = 0
    """The first seed."""
    methods: tuple[str, ...] = ALL
    """Who learns, in this order."""
    sizes: Sizes = Sizes()  # noqa: RUF009  # frozen
    """How large the task is."""
    learning: Learning = Learning()  # noqa: RUF009
    """How everyone learns."""

    part: ClassVar[str] = "preference_noise"

    def units(self) -> list[Unit]:
        """One for each size of network.

        Raises:
          BenchmarkError: an unknown method, or no seeds.
        """
        refuse_unknown("method", self.methods, ALL)
        if self.num_seeds < 1:
            raise BenchmarkError(f"Expected at least one seed, got {self.num_seeds}.")
        return [
            Unit(f"{self.sizes.items} items, hidden layers of {hidden}", EVERYONE, (), self._settings(hidden))
            for hidden in self.hidden_sizes
        ]

    def _settings(self, hidden: int) -> dict[str, Any]:
        """All that decides the numbers."""
        return {
            "hidden": hidden,
            "seeds": list(range(self.seed, self.seed + self.num_seeds)),
            "methods": list(self.methods),
            **dataclasses.asdict(self.sizes),
            **dataclasses.asdict(self.learning),
            "scenarios": {name: corruption._asdict() for name, corruption in SCENARIOS.items()},
            "outlier_std": OUTLIER_STD,
            "score_temperature": SCORE_TEMPERATURE,
            "anchor_temperature": ANCHOR_TEMPERATURE,
            "flip_probability": FLIP_PROBABILITY,
            "trust_region": TrustRegion()._asdict(),
        }
