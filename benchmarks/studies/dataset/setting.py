"""Which data, made where, and who learns from them."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from benchmarks.lab.study import Unit, refuse_unknown
from maxent_rl.settings import Count, NonNegative, Positive

ENVS = {"maxent/CartPole": 0.95, "maxent/MountainCar": 0.99, "maxent/LavaGap": 0.95, "maxent/DynamicObstacles": 0.95}
"""Environments and their discounts, as the paper has them; the two of MinAtar are too large for this study."""
KINDS = ("random", "replay", "mixed", "noisy", "expert")
DATA = "data"
"""The contender that makes and measures an environment's data sets."""
_OF_DATA = ("size", "behaviours", "seed", "episodes", "hidden_sizes", "online_learning_rate", "edges")

FAMILIES = {
    "cloning": ("bc",),
    "values of the data": ("bve", "mce"),
    "DQN family": ("dqn", "qr-dqn", "rem"),
    "constrained": ("bcq", "cql-discrete", "crr"),
}
AGENTS = tuple(agent for agents in FAMILIES.values() for agent in agents)
LABELS = {
    "bc": "BC", "bve": "BVE", "mce": "MCE", "dqn": "DQN", "qr-dqn": "QR-DQN", "rem": "REM", "bcq": "BCQ",
    "cql-discrete": "CQL", "crr": "CRR",
}  # fmt: skip
"""Agents as people read them."""


@dataclasses.dataclass(frozen=True)
class DatasetPerspective:
    """What decides the numbers, and where and by whom it is learned."""

    size: Count = 50_000
    """Steps of an online run, and transitions of every data set (the paper has 100,000)."""
    behaviours: Count = 3
    """Online runs for each environment (the paper has 5)."""
    num_seeds: Count = 5
    """Seeds of every offline run."""
    seed: NonNegative = 42
    """The first seed, of online and offline runs."""
    updates: Count = 6_000
    """Updates of every offline run (the paper has 500,000)."""
    evaluations: Count = 12
    """Evaluations of every offline run, evenly spaced, of 10 greedy episodes for each seed."""
    episodes: Count = 10
    """Episodes of an evaluation."""
    batch_size: Count = 64
    """Transitions in a batch (the paper has 128)."""
    target_every: Count = 30
    """Updates after which an offline agent copies its targets (the paper has 100, for many more updates)."""
    num_quantiles: Count = 20
    """Quantiles of qr-dqn (the paper has 50)."""
    hidden_sizes: tuple[Count, ...] = (64, 64)
    """Units of the hidden layers (the paper has three of 256)."""
    learning_rate: Positive = 1e-3
    """Adam's step size of the offline agents (the paper has 1e-4, for many more updates)."""
    online_learning_rate: Positive = 1e-3
    """That of the online runs."""
    edges: Count = 100
    """Edges of the bins in which state-action pairs are counted."""
    envs: tuple[str, ...] = tuple(ENVS)
    """Environments."""
    agents: tuple[str, ...] = AGENTS
    """Offline agents."""

    part: ClassVar[str] = "dataset"

    def units(self) -> list[Unit]:
        """In each environment the data first, then agent by agent on all of them, so that one program is in use for many runs.

        Raises:
          BenchmarkError: an unknown environment or agent.
        """
        refuse_unknown("environment", self.envs, ENVS)
        refuse_unknown("agent", self.agents, AGENTS)
        settings = {name: value for name, value in dataclasses.asdict(self).items() if name not in ("envs", "agents")}
        data = {name: settings[name] for name in _OF_DATA}
        units = []
        for env in self.envs:
            discount = {"discount": ENVS[env]}
            units.append(Unit(env, DATA, (), data | discount))
            units += [Unit(env, agent, (), settings | discount) for agent in self.agents]
        return units
