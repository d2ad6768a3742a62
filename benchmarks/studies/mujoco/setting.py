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
_TWICE = "--agent sac --preset crossq-small --batch-size 128 --updates-per-step 2"
_COOL = f"{_TWICE} --initial-temperature 0.1"
_EFFICIENT = f"{_COOL} --entropy-per-dimension -0.5"
TRIALS = {
    "efficient": _EFFICIENT,
    "early-start": f"{_EFFICIENT} --most-start-steps 2000",
    "sac-entropy": _COOL,
    "sac-entropy-early-start": f"{_COOL} --most-start-steps 2000",
    "sac-entropy-warm": _TWICE,
    "one-update": f"{_EFFICIENT} --batch-size 256 --updates-per-step 1",
    "three-updates": f"{_EFFICIENT} --batch-size 64 --updates-per-step 3",
    "wide": f"{_EFFICIENT} --batch-size 64 --updates-per-step 1 --critic-hidden-sizes 512 512",
    "three-steps": f"{_EFFICIENT} --n-step 3",
    "held-noise": f"{_EFFICIENT} --held-noise 16",
    "bins": f"{_EFFICIENT} --critic-value categorical --reward-scale bound --initial-temperature 0.01",
    "target-network": f"{_EFFICIENT} --target-network",
    "no-normalisation": f"{_EFFICIENT} --critic-norm none --policy-norm none --target-network --no-batch-renorm",
    "sac-like": "--agent sac --initial-temperature 0.1 --entropy-per-dimension -0.5",
}
"""The efficient preset, and with one thing changed; SAC with its start."""
LABELS = {
    "sac": "SAC",
    "sac-paper": "SAC of the paper",
    "pmoe": "PMOE, four experts",
    "crossq-small": "CrossQ, 2 x 256",
    "tqc": "TQC, 2 x (2 x 256)",
    "efficient": "SAC, efficient",
    "ppo": "PPO",
    "early-start": "2,000 random steps",
    "sac-entropy": "SAC's entropy",
    "sac-entropy-early-start": "SAC's entropy, 2,000 random steps",
    "sac-entropy-warm": "SAC's entropy, temperature 1 at the start",
    "one-update": "one update of 256 rows",
    "three-updates": "three updates of 64 rows",
    "wide": "one update of 64 rows, critics 2 x 512",
    "three-steps": "returns of three steps",
    "held-noise": "noise held over up to 16 steps",
    "bins": "101 bins, divided rewards",
    "target-network": "a target network",
    "no-normalisation": "no normalisation, a target network",
    "sac-like": "SAC with the preset's temperature and entropy",
}
PARTS = {"short": "100,000 steps", "long": "300,000 steps", "trials": "one thing changed, 15,000 steps"}
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
    known: ClassVar[dict[str, str]] = CONTENDERS

    def units(self) -> list[Unit]:
        """The programs to run, task by task.

        Raises:
          BenchmarkError: an unknown contender or task.
        """
        refuse_unknown("contender", self.contenders, self.known)
        refuse_unknown("task", self.envs, ENVS)
        run = f"{_RECORDED} --total-steps {self.total_steps} --num-seeds {self.num_seeds} --seed {self.seed}"
        return [
            Unit(env, contender, tuple(shlex.split(f"--env {env} {self.known[contender]} {run}")), {})
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


@dataclasses.dataclass(frozen=True)
class Trials(Short):
    """What the efficient preset owes to each of its settings, on seeds that are reported nowhere else."""

    contenders: tuple[str, ...] = tuple(TRIALS)
    """Who runs, in this order."""
    envs: tuple[str, ...] = ("HalfCheetah",)
    """Tasks, in this order."""
    num_seeds: int = 3
    """Seeds of each contender, all in one program."""
    seed: int = 10
    """The first seed."""
    total_steps: int = 15_000
    """Environment steps of each seed, the same for all contenders."""

    part: ClassVar[str] = "trials"
    known: ClassVar[dict[str, str]] = TRIALS
