"""Which offline method works on which data: nine agents on five kinds of data of several online runs, over TQ and SACo.

    python benchmarks/dataset_study.py study     # results/dataset_study/dataset_study.json
    python benchmarks/dataset_study.py render    # tables into benchmarks/README.md, and results/dataset_study.png

Online runs of dqn-online make the data; TQ and SACo are measured; every agent learns from every data set, all seeds in one
program. All runs in this process, so that what has been compiled serves again. The study can be stopped at any time: the same
command goes on with what is not done yet, or whose settings have changed.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import tyro
from common import BUSY, RESULTS, ROOT, BenchmarkError, busy_share, command_line, new_result, write_json
from dataset_claims import AGENTS
from multimodal_study import refuse_unknown
from rich.console import Console

from maxent_rl.settings import Count, NonNegative, Positive

NAME = "dataset_study"
ENVS = {"maxent/CartPole": 0.95, "maxent/MountainCar": 0.99, "maxent/LavaGap": 0.95, "maxent/DynamicObstacles": 0.95}
"""Environments and their discounts, as the paper has them; the two of MinAtar are too large for this study."""
KINDS = ("random", "replay", "mixed", "noisy", "expert")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the numbers."""

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
    hidden_sizes: tuple[Count, ...] = (64, 64)
    """Units of the hidden layers (the paper has three of 256)."""
    learning_rate: Positive = 1e-3
    """Adam's step size of the offline agents (the paper has 1e-4, for many more updates)."""
    online_learning_rate: Positive = 1e-3
    """That of the online runs."""
    edges: Count = 100
    """Edges of the bins in which state-action pairs are counted."""


@dataclasses.dataclass(frozen=True)
class Study:
    """Makes the data, measures them, and learns what is not done yet."""

    settings: Settings = Settings()
    envs: tuple[str, ...] = tuple(ENVS)
    """Environments."""
    agents: tuple[str, ...] = AGENTS
    """Offline agents."""
    fresh: bool = False
    """Forget what was measured before."""
    output: Path = RESULTS / NAME
    """Folder of the results, and of runs and data sets, which are only made once."""

    def run(self) -> int:
        """Measures; returns the exit status."""
        from dataset_runs import learn, make_datasets

        refuse_unknown("environment", self.envs, ENVS)
        refuse_unknown("agent", self.agents, AGENTS)
        console = Console(stderr=True, soft_wrap=True)
        busy = busy_share(1.0)
        if busy > BUSY:
            console.print(f"Warning: other processes use {busy:.0%} of the machine; the times will not be its own.")
        path = self.output / f"{NAME}.json"
        result = self._begin(path) | {"busy_before": round(busy, 3)}
        for env in self.envs:
            if not any(data["env"] == env for data in result["datasets"]):
                console.print(f"{env}: online runs and data ...", highlight=False)
                result["datasets"] += make_datasets(env, ENVS[env], self.settings, self.output.absolute())
                write_json(path, result)
        units = [(data, agent) for data in result["datasets"] if data["env"] in self.envs for agent in self.agents]
        # Agent by agent within an environment, so that one program is in use for many runs.
        units.sort(key=lambda unit: (self.envs.index(unit[0]["env"]), self.agents.index(unit[1])))
        done = {(run["data"], run["agent"]) for run in result["runs"]}
        for index, (data, agent) in enumerate(units):
            if (data["name"], agent) in done:
                continue
            began = time.monotonic()
            steps, returns = learn(data, agent, ENVS[data["env"]], self.settings, self.output.absolute())
            seconds = round(time.monotonic() - began, 2)
            found = {"data": data["name"], "agent": agent, "steps": steps, "returns": returns, "seconds": seconds}
            result["runs"].append(found)
            write_json(path, result)
            best = max(sum(column) / len(column) for column in zip(*returns, strict=True))
            console.print(
                f"[{index + 1}/{len(units)}] {data['name']} {agent}: best {best:.4g} (data {data['return_mean']:.4g}, "
                f"expert {data['expert_return']:.4g}; {seconds:.0f} s)", highlight=False, markup=False,
            )  # fmt: skip
        result["complete"] = True
        write_json(path, result)
        console.print(f"Written: {path}", highlight=False)
        return 0

    def _begin(self, path: Path) -> dict[str, Any]:
        """The results so far, if they were measured with these settings."""
        fresh = new_result(NAME, self.settings) | {"datasets": []}
        if self.fresh or not path.exists():
            return fresh
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if before["settings"] != json.loads(json.dumps(fresh["settings"])):
            raise BenchmarkError(
                f"{path} was measured with other settings: pass --fresh to forget it, or another --output."
            )
        return before | {"complete": False}


@dataclasses.dataclass(frozen=True)
class Render:
    """Tables between the markers of benchmarks/README.md, and the figure, from what has been measured."""

    results: Path = RESULTS / NAME / f"{NAME}.json"
    """The results."""
    readme: Path = ROOT / "benchmarks" / "README.md"
    """File with the markers."""
    figure: Path = RESULTS / f"{NAME}.png"
    """Figure to write."""

    def run(self) -> int:
        """Renders; returns the exit status."""
        from dataset_tables import render

        render(self.results, self.readme, self.figure)
        return 0


def main() -> int:
    """Measures or renders; returns the exit status."""
    return tyro.cli(Study | Render, description=__doc__, config=(tyro.conf.OmitArgPrefixes,)).run()


if __name__ == "__main__":
    command_line(main)
