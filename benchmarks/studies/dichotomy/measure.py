"""Measures one method in one world: what it earns, and what it was promised."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.dichotomy.setting import DISCOUNT, EPSILON, LATENTS, METHODS, Dichotomy
from benchmarks.studies.dichotomy.tabular import train_seeds
from benchmarks.studies.dichotomy.task import bandit_law_of, bandit_return, conditional, lake_law_of, success
from maxent_rl.envs.own.chance import FrozenLake


def measure(unit: Unit, plan: Dichotomy, work: Path) -> Measured:
    """Trains one method in one world, and works out what it earns and what it was promised.

    The promise is the value of the latent at the start, or the return that was asked for; cloning is promised nothing. What is
    held against it is the return in the same units: discounted where values are.
    """
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
