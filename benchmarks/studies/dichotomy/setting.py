"""Who learns in which worlds, and from what data."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from benchmarks.lab.study import Unit, refuse_unknown

BANDITS = tuple(round(0.05 * index, 2) for index in range(1, 10))
"""Probabilities with which the bandit's arm 0 pays."""
SLIPPING = (0.0, 1 / 6, 1 / 3, 1 / 2, 2 / 3)
"""Probabilities of slipping on the lake; 2/3 is Gymnasium's."""
EPSILON, DISCOUNT = 0.3, 0.9
"""Share of uniform actions in the lake's data; factor of later rewards in the values by which latents are chosen there."""
LATENTS = {"BernoulliBandit": 4, "FrozenLake": 8}

# Weight of the constraint, and of the posterior's divergence from the prior; None for shares of the data.
METHODS: dict[str, tuple[float, float] | None] = {
    "bc": None,
    "dt": None,
    "doc": (3.0, 0.0),
    "unconstrained": (0.0, 0.0),
    "future-vae": (0.0, 1.0),
    "published-sign": (-1.0, 0.0),
}
"""By name, in the order of the tables."""
LABELS = {
    "bc": "cloning (BC)",
    "dt": "largest return asked for (DT)",
    "doc": "dichotomy of control (DoC)",
    "unconstrained": "without the constraint",
    "future-vae": "Future-VAE",
    "published-sign": "sign of the published code",
}
"""As people read them."""


@dataclasses.dataclass(frozen=True)
class Dichotomy:
    """Which methods learn in which worlds, and from how much."""

    methods: tuple[str, ...] = tuple(METHODS)
    """Who learns, in this order."""
    num_seeds: int = 5
    """Seeds of each method, each with its own data."""
    bandits: tuple[float, ...] = BANDITS
    """Probabilities of the bandit."""
    slipping: tuple[float, ...] = SLIPPING
    """Probabilities of slipping."""
    episodes: int = 1_000
    """Episodes of the bandit's data."""
    transitions: int = 100_000
    """Transitions of the lake's data."""
    updates: int = 3_000
    """Descents of the tables."""
    inner: int = 2
    """Ascents of the energy before each."""
    part: ClassVar[str] = "dichotomy"

    def units(self) -> list[Unit]:
        """What is measured: the bandits first, then the lakes.

        Raises:
          BenchmarkError: an unknown method.
        """
        refuse_unknown("method", self.methods, METHODS)
        common = {"num_seeds": self.num_seeds, "updates": self.updates, "inner": self.inner}
        bandit = common | {"episodes": self.episodes}
        lake = common | {"transitions": self.transitions, "epsilon": EPSILON, "discount": DISCOUNT}
        worlds = [(f"BernoulliBandit-{p:.4g}", bandit | {"chance": p}) for p in self.bandits]
        worlds += [(f"FrozenLake-{p:.4g}", lake | {"chance": p}) for p in self.slipping]
        return [
            Unit(env, method, (), measured | {"weights": list(METHODS[method] or ())})
            for env, measured in worlds
            for method in self.methods
        ]
