"""Which runs are repeated: each by the config.json that stands beside its records in results/NAME."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.lab.study import Unit, refuse_unknown

RECORDS = Path(__file__).parent / "results"
RUNS = (
    "sac-HalfCheetah-v5-100k",
    "sac-paper-HalfCheetah-v5-100k",
    "sac-Hopper-v5-100k",
    "pmoe-HalfCheetah-v5-100k",
    "adpo-online-HalfCheetah-v5-50k",
    "sac-brax-halfcheetah-100k",
    "ppo-CartPole-v1",
    "ppo-Pendulum-v1",
    "ppo-brax-halfcheetah-1M",
    "ppo-HalfCheetah-v5-1M",
    "grpo-modular-addition",
)
"""In the order of the table."""


def config_of(name: str) -> dict[str, Any]:
    """The recorded configuration of a run."""
    found: dict[str, Any] = json.loads((RECORDS / name / "config.json").read_text(encoding="utf-8"))
    return found


@dataclasses.dataclass(frozen=True)
class Learning:
    """Runs of experiments/run.py, as a user starts them."""

    runs: tuple[str, ...] = RUNS
    """Which, in this order."""

    part: ClassVar[str] = "learning"

    def units(self) -> list[Unit]:
        """One for each run, all of its seeds in one program.

        Raises:
          BenchmarkError: an unknown run.
        """
        refuse_unknown("run", self.runs, RUNS)
        return [
            Unit(config_of(name)["run"]["env"], name, ("--config", f"results/{name}/config.json"), {})
            for name in self.runs
        ]
