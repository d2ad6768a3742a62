"""Distillation of SAC teachers: knowledge distillation, behaviour cloning, and ADPO with each anchor and both targets.

    python benchmarks/distillation.py run       # trains the teachers where none are given, then all students
    python benchmarks/distillation.py render    # tables into benchmarks/README.md, and results/distillation.png

All seeds of a method learn in one program, from the same states and candidate actions. The study can be stopped at any time:
the same command goes on with what is not done yet, or whose settings have changed.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro
from common import RESULTS, ROOT, command_line, exit_status
from distillation_tables import render, table
from multimodal_study import Result, Unit, refuse_unknown, study

CONTENDERS = {
    "kd": "--method kd --teacher-temperature 1",
    "kd-T4": "--method kd --teacher-temperature 4",
    "bc": "--method bc",
    **{
        f"{anchor}-plain": f"--anchor {anchor} --target teacher --anchoring-temperature 1 --teacher-temperature 1"
        for anchor in ("fixed", "ema", "copy", "kl")
    },
    **{
        f"{anchor}-over": f"--anchor {anchor} --target teacher_over_anchor --anchoring-temperature 4"
        for anchor in ("fixed", "ema", "copy", "kl")
    },
}
"""By name: flags of experiments/run.py --agent adpo. "plain" has the teacher's own distribution as the target, "over" that
of the teacher relative to the anchor."""

TEACHERS = {"HalfCheetah": ("--total-steps 100000 --eval-every 10000", 0), "Hopper": ("--total-steps 250000", 0)}
"""By environment: flags with which its SAC teacher is trained, and the seed."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Trains and measures what is not done yet."""

    contenders: tuple[str, ...] = tuple(CONTENDERS)
    """Who learns, in this order."""
    envs: tuple[str, ...] = tuple(TEACHERS)
    """Environments, in this order."""
    teachers: tuple[Path, ...] = ()
    """Runs of the teachers, one for each environment; none to train them with the settings of this file."""
    num_seeds: int = 5
    """Seeds of each method, all in one program."""
    updates: int = 16_000
    """Gradient steps of each seed."""
    batch_size: int = 128
    """States in a batch."""
    num_states: int = 20_000
    """States of the teacher's episodes to learn from."""
    episodes: int = 10
    """Episodes of each seed, with the most likely actions, at the end."""
    arguments: str = ""
    """Further flags of experiments/run.py for everyone: `--arguments="--learning-rate 3e-4"`."""
    fresh: bool = False
    """Forget what was measured before."""
    output: Path = RESULTS
    """Folder of the results."""

    def units(self, steps: Mapping[str, int]) -> list[Unit]:
        """The programs to run, given how many environment steps each environment's teacher was trained for."""
        common = (
            f"--agent adpo --total-steps {self.updates} --num-seeds {self.num_seeds} --batch-size {self.batch_size} "
            f"--num-states {self.num_states} {self.arguments}"
        )
        return [
            Unit(env, name, self._flags(env, name, common), {"episodes": self.episodes, "teacher_steps": steps[env]})
            for env in self.envs
            for name in self.contenders
        ]

    def run(self) -> Result:
        """Measures.

        Raises:
          BenchmarkError: an unknown contender or environment, or a teacher that could not be trained.
        """
        from distillation_study import Students, find_teachers

        refuse_unknown("contender", self.contenders, CONTENDERS)
        refuse_unknown("environment", self.envs, TEACHERS)
        given = dict(zip(self.envs, self.teachers, strict=False))
        students = Students(find_teachers(given, self.envs, TEACHERS, self.output))
        return study("distillation", self.units(students.steps), students, self, self.output, self.fresh)

    def _flags(self, env: str, contender: str, common: str) -> tuple[str, ...]:
        return tuple(shlex.split(f"--env {env} {common} {CONTENDERS[contender]}"))


@dataclasses.dataclass(frozen=True)
class Render:
    """The table between the markers of benchmarks/README.md, and the figure, from what has been measured."""

    results: Path = RESULTS
    """Folder with the results."""
    readme: Path = ROOT / "benchmarks" / "README.md"
    """File with the markers."""
    figure: Path = RESULTS / "distillation.png"
    """Figure to write."""


def main() -> int:
    """Measures or renders; returns the exit status."""
    options: Any = tyro.cli(Run | Render, description=__doc__)
    if isinstance(options, Render):
        render(options.results, options.readme, options.figure, tuple(CONTENDERS))
        return 0
    result = options.run()
    print(table(result, tuple(CONTENDERS)))
    return exit_status(result)


if __name__ == "__main__":
    command_line(main)
