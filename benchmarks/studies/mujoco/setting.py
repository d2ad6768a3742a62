"""Who is trained where, with which flags, and how the contenders are called."""

from __future__ import annotations

import dataclasses
import shlex
from typing import ClassVar

from benchmarks.lab.study import Unit, refuse_unknown

CONTENDERS = {
    "sac": "--agent sac",
    "sac-paper": "--agent sac --preset paper",
    "pmoe": "--agent pmoe",
    "crossq-small": "--agent sac --preset crossq-small",
    "tqc": "--agent sac --preset tqc",
    "efficient": "--agent sac --preset efficient",
    "ppo": "--agent ppo",
}
"""Flags of experiments/run.py. What is not said has its default."""
LABELS = {
    "sac": "SAC",
    "sac-paper": "SAC of the paper",
    "pmoe": "PMOE, four experts",
    "crossq-small": "CrossQ, 2 x 256",
    "tqc": "TQC, 2 x (2 x 256)",
    "efficient": "SAC, efficient",
    "ppo": "PPO",
}
PARTS = {"short": "100,000 steps", "long": "300,000 steps"}
"""What each part is called."""
ENVS = ("HalfCheetah", "Walker2d", "Hopper", "Ant", "Humanoid")

_RECORDED = "--eval-every 5000 --eval-episodes 10 --checkpoint-every 10000 --keep-checkpoints 1"


@dataclasses.dataclass(frozen=True)
class Short:
    """Everyone, at equal steps."""

    contenders: tuple[str, ...] = tuple(CONTENDERS)
    """Who runs, in this order."""
    envs: tuple[str, ...] = ENVS
    """Tasks, in this order."""
    num_seeds: int = 5
    """Seeds of each contender, all in one program."""
    seed: int = 0
    """The first seed."""
    total_steps: int = 100_000
    """Environment steps of each seed, the same for all contenders."""

    part: ClassVar[str] = "short"

    def units(self) -> list[Unit]:
        """The programs to run, task by task.

        Raises:
          BenchmarkError: an unknown contender or task.
        """
        refuse_unknown("contender", self.contenders, CONTENDERS)
        refuse_unknown("task", self.envs, ENVS)
        run = f"{_RECORDED} --total-steps {self.total_steps} --num-seeds {self.num_seeds} --seed {self.seed}"
        return [
            Unit(env, contender, tuple(shlex.split(f"--env {env} {CONTENDERS[contender]} {run}")), {})
            for env in self.envs
            for contender in self.contenders
        ]


@dataclasses.dataclass(frozen=True)
class Long(Short):
    """SAC, and the preset that is to leave it behind at nearly the same arithmetic."""

    contenders: tuple[str, ...] = ("sac", "efficient")
    """Who runs, in this order."""
    num_seeds: int = 3
    """Seeds of each contender, all in one program."""
    total_steps: int = 300_000
    """Environment steps of each seed, the same for all contenders."""

    part: ClassVar[str] = "long"
