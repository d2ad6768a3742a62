"""What is put to the test: runs that are killed or run out of disk, damaged inputs, and command lines."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from benchmarks.lab.study import Unit, refuse_unknown

_RUN = "--log-every 50 --checkpoint-every 60 --eval-every 300 --eval-episodes 1"
_OFF = f"{_RUN} --total-steps 700 --hidden-sizes 16 16 --batch-size 16 --start-steps 150 --replay-size 400"
_LM = (
    "--num-envs 16 --group-size 4 --hidden-size 16 --num-layers 1 --num-heads 2 --num-key-value-heads 1 "
    "--intermediate-size 16 --warm-start-loss 0"
)
_DATA = f"{_RUN} --total-steps 700 --env Pendulum-v1 --dataset {{transitions}}"

RUNS = {
    "sac": f"--agent sac --env Pendulum-v1 {_OFF} --num-seeds 2",
    "sac, device": f"--agent sac --env maxent/MultiGoal {_OFF} --num-envs 2",
    "pmoe, variants": f"--agent pmoe --env Pendulum-v1 {_OFF} --num-experts 2 --variants learning-rate 1e-3 3e-4",
    "dqn-online": f"--agent dqn-online --env CartPole-v1 {_OFF}",
    "ppo, host": f"--agent ppo --env CartPole-v1 {_RUN} --total-steps 1200 --rollout-size 150 --minibatches 3 --num-envs 2",
    "subpo, recurrent": f"--agent subpo --env maxent/TwoRooms --history recurrent --baseline value {_RUN} --total-steps 4000",
    "iql": f"--agent iql {_DATA} --hidden-sizes 16 16 --batch-size 16",
    "dt": f"--agent dt {_DATA} --batch-size 8 --context 4",
    "adpo": f"--agent adpo --env Pendulum-v1 {_RUN} --total-steps 700 --teacher {{teacher}} --hidden-sizes 16 16",
    "grpo": f"--agent grpo --env tokens/modular-addition {_RUN} --total-steps 1600 {_LM} --warm-start-steps 400",
}
"""By name, the flags of experiments/run.py: every kind of loop and of what an agent learns from."""

MOMENTS = ("writing", "writing", "twice", "early or any", "full disk")
"""Of each of them; every other run is killed before its first checkpoint, the others at any moment."""

KINDS = ("checkpoint", "segment", "policy", "configuration", "tables", "data sets", "sweep folders")
COMMANDS = {"run": 220, "sweep": 130, "evaluate": 60, "dataset": 60, "report": 16, "experts": 14}
"""By name, how many lines of them are drawn."""


@dataclasses.dataclass(frozen=True)
class Kills:
    """Runs that are killed, or whose disk fills up, and that go on: they must end as an undisturbed one, to the bit."""

    runs: tuple[str, ...] = tuple(RUNS)
    """Which."""
    seed: int = 20261201
    """Decides the moments."""

    part: ClassVar[str] = "kills"

    def units(self) -> list[Unit]:
        """One for each run: all that happens to it.

        Raises:
          BenchmarkError: an unknown run.
        """
        refuse_unknown("run", self.runs, RUNS)
        return [
            Unit("killed", name, tuple(RUNS[name].split()), {"moments": list(moments(name)), "seed": self.seed})
            for name in self.runs
        ]


def moments(name: str) -> tuple[str, ...]:
    """What happens to the copies of a run."""
    other = "early" if list(RUNS).index(name) % 2 else "any"
    return tuple(other if moment == "early or any" else moment for moment in MOMENTS)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Damaged and hostile files, and the answer to each."""

    kinds: tuple[str, ...] = KINDS
    """Which."""

    part: ClassVar[str] = "inputs"

    def units(self) -> list[Unit]:
        """One for each kind of file.

        Raises:
          BenchmarkError: an unknown kind.
        """
        refuse_unknown("kind", self.kinds, KINDS)
        return [Unit(kind, "damaged", (), {}) for kind in self.kinds]


@dataclasses.dataclass(frozen=True)
class CommandLines:
    """Command lines drawn at random, every other of them wrong."""

    commands: tuple[str, ...] = tuple(COMMANDS)
    """Which."""
    seed: int = 20261201
    """Decides them."""
    share: float = 1.0
    """Of as many lines as `COMMANDS` says."""

    part: ClassVar[str] = "commands"

    def units(self) -> list[Unit]:
        """One for each command.

        Raises:
          BenchmarkError: an unknown command.
        """
        refuse_unknown("command", self.commands, COMMANDS)
        counts = {name: max(round(COMMANDS[name] * self.share), 2) for name in self.commands}
        return [Unit(name, "drawn", (), {"lines": count, "seed": self.seed}) for name, count in counts.items()]
