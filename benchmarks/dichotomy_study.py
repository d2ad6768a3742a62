"""Luck and skill: cloning, asking for a high return, and dichotomy of control, where chance decides more and more.

    python benchmarks/dichotomy_study.py study     # results/dichotomy/dichotomy.json
    python benchmarks/dichotomy_study.py render    # tables into benchmarks/README.md, and results/dichotomy.png

Every method is a table, trained to the end on the exact objective of its data (`dichotomy_table.py`), and every return is
worked out exactly: what is seen is what the objectives say, not what networks make of them. Cloning and asking for the
largest return need no training then: they are shares of the data. Each seed has data of its own. The study can be stopped
at any time: the same command goes on.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import tyro
from common import RESULTS, ROOT, command_line, exit_status
from multimodal_study import Measured, Result, Seed, Unit, refuse_unknown, study

NAME = "dichotomy"
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


@dataclasses.dataclass(frozen=True)
class Study:
    """Measures what is not done yet."""

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
    fresh: bool = False
    """Forget what was measured before."""
    output: Path = RESULTS / NAME
    """Folder of the results."""

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

    def run(self) -> Result:
        """Measures."""
        return study(NAME, self.units(), measure, self, self.output, self.fresh)


@dataclasses.dataclass(frozen=True)
class Render:
    """Tables between the markers of benchmarks/README.md, and the figure, from what has been measured."""

    results: Path = RESULTS / NAME / f"{NAME}.json"
    """The results."""
    readme: Path = ROOT / "benchmarks" / "README.md"
    """File with the markers."""
    figure: Path = RESULTS / f"{NAME}.png"
    """Figure to write."""

    def run(self) -> None:
        """Renders."""
        from dichotomy_render import render

        render(self.results, self.readme, self.figure)


def measure(unit: Unit) -> Measured:
    """Trains one method in one world, and works out what it earns and what it was promised.

    The promise is the value of the latent at the start, or the return that was asked for; cloning is promised nothing. What is
    held against it is the return in the same units: discounted where values are.
    """
    from dichotomy_table import train_seeds
    from dichotomy_task import bandit_law_of, bandit_return, conditional, lake_law_of, success

    from maxent_rl.envs.own.chance import FrozenLake

    settings, chance, seeds = unit.measured, unit.measured["chance"], range(unit.measured["num_seeds"])
    lake = FrozenLake(chance) if unit.env.startswith("FrozenLake") else None
    if lake is not None:
        laws = [lake_law_of(chance, EPSILON, DISCOUNT, settings["transitions"], seed) for seed in seeds]
    else:
        laws = [bandit_law_of(chance, settings["episodes"], seed) for seed in seeds]

    def earned(policy: np.ndarray, discount: float = 1.0) -> float:
        return bandit_return(policy[0], chance) if lake is None else success(lake.table, policy, lake.horizon, discount)

    values: list[dict[str, float]] = []
    if METHODS[unit.contender] is None:
        for law in laws:
            policy = conditional(law.lucky if unit.contender == "dt" else law.joint.sum(axis=2))
            values.append({"return": earned(policy)})
            if unit.contender == "dt":
                values[-1] |= {"promised": 1.0, "kept": values[-1]["return"], "gap": abs(1.0 - values[-1]["return"])}
    else:
        beta, rate = METHODS[unit.contender] or (0.0, 0.0)
        latents = LATENTS[unit.env.partition("-")[0]]
        found = train_seeds(laws, beta, rate, latents, outer=settings["updates"], inner=settings["inner"])
        for index in seeds:
            policy, promised = np.asarray(found.policy[index], np.float64), float(found.promised[index, 0])
            kept = earned(policy, DISCOUNT)
            values.append({"return": earned(policy), "promised": promised, "kept": kept, "gap": abs(promised - kept)})
            values[-1]["information"] = float(found.information[index])
    entries = [Seed(seed, each, {}) for seed, each in zip(seeds, values, strict=True)]
    return Measured(entries, {"jax": jax.__version__})


def main() -> int:
    """Measures or renders; returns the exit status."""
    options = tyro.cli(Study | Render, description=__doc__)
    if isinstance(options, Render):
        options.run()
        return 0
    return exit_status(options.run())


if __name__ == "__main__":
    command_line(main)
