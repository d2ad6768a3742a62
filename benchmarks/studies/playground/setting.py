"""Who is trained where, with which flags, and how the contenders are called."""

from __future__ import annotations

import dataclasses
import shlex
from typing import ClassVar

from benchmarks.lab.study import Unit, refuse_unknown

LABELS = {"ppo": "PPO", "reppo": "REPPO"}
PARTS = {
    "brax": "Brax, episodes staggered",
    "together": "Brax, episodes together",
    "playground": "MuJoCo Playground",
}
"""What each part is called."""

_RECORDED = "--eval-every 32768 --eval-episodes 10 --checkpoint-every 65536 --keep-checkpoints 1"
_TOGETHER = f"--backend spring --num-envs 64 {_RECORDED}"
_BRAX = f"--backend spring --num-envs 64 --stagger-episodes {_RECORDED}"
_PLAYGROUND = (
    "--stagger-episodes --eval-every 5000000 --eval-num-envs 64 --eval-episodes 64 --checkpoint-every 10000000 "
    "--keep-checkpoints 1"
)

_ON_TWO_CORES = {
    "ppo": "--agent ppo --rollout-size 2048 --minibatches 32 --epochs 10",
    "reppo": (
        "--agent reppo --rollout-size 2048 --minibatches 8 --epochs 8 --learning-rate 1e-3 --reward-factor 0.1 "
        "--value-low -20 --value-high 130 --hidden-sizes 128 128 --critic-width 128"
    ),
}
_ON_ACCELERATORS = {
    "ppo": (
        "--agent ppo --num-envs 1024 --rollout-size 32768 --minibatches 32 --epochs 8 --learning-rate 1e-3 "
        "--hidden-sizes 256 256 256 --activation swish --entropy-bonus 0.01"
    ),
    "reppo": "--agent reppo --preset reppo-dmc",
}
CONTENDERS = {"brax": _ON_TWO_CORES, "together": _ON_TWO_CORES, "playground": _ON_ACCELERATORS}
"""By part and contender: flags of experiments/run.py. What is not said has its default."""


@dataclasses.dataclass(frozen=True)
class Training:
    """What all parts have in common."""

    contenders: tuple[str, ...] = tuple(LABELS)
    """Who runs, in this order."""
    num_seeds: int = 3
    """Seeds of each contender, all in one program."""
    seed: int = 0
    """The first seed."""
    total_steps: int = 262_144
    """Environment steps of each seed, the same for all contenders."""
    arguments: str = ""
    """Further flags of experiments/run.py for everyone, after the table's: `--arguments="--learning-rate 1e-3"`."""
    envs: tuple[str, ...] = ()
    """Environments, in this order."""

    part: ClassVar[str]
    everyone: ClassVar[str]

    def units(self) -> list[Unit]:
        """The programs to run, environment by environment.

        Raises:
          BenchmarkError: an unknown contender.
        """
        flags = CONTENDERS[self.part]
        refuse_unknown("contender", self.contenders, flags)
        return [
            Unit(env, contender, self._all_flags(env, flags[contender]), {})
            for env in self.envs
            for contender in self.contenders
        ]

    def _all_flags(self, env: str, own: str) -> tuple[str, ...]:
        run = f"--total-steps {self.total_steps} --num-seeds {self.num_seeds} --seed {self.seed}"
        return tuple(shlex.split(f"--env {env} {self.everyone} {own} {run} {self.arguments}"))


@dataclasses.dataclass(frozen=True)
class Brax(Training):
    """Brax on its spring backend, with so few environments and so small networks that two cores do; episodes are staggered."""

    envs: tuple[str, ...] = ("brax/halfcheetah",)
    """Environments, in this order."""

    part: ClassVar[str] = "brax"
    everyone: ClassVar[str] = _BRAX


@dataclasses.dataclass(frozen=True)
class Together(Brax):
    """The same with episodes that all begin, and end, together."""

    part: ClassVar[str] = "together"
    everyone: ClassVar[str] = _TOGETHER


@dataclasses.dataclass(frozen=True)
class Playground(Training):
    """Tasks of MuJoCo Playground with a thousand environments, for machines with an accelerator."""

    total_steps: int = 50_000_000
    """Environment steps of each seed, the same for all contenders."""
    envs: tuple[str, ...] = (
        "playground/CheetahRun",
        "playground/WalkerRun",
        "playground/HopperHop",
        "playground/HumanoidWalk",
    )
    """Environments, in this order."""

    part: ClassVar[str] = "playground"
    everyone: ClassVar[str] = _PLAYGROUND
