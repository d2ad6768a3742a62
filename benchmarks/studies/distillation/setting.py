"""Who learns of which teacher, with which flags, and how the methods are called."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import ClassVar

from benchmarks.lab.study import Unit, refuse_unknown
from maxent_rl.runs.policy import load_policy

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
_ANCHORS = {"fixed": "self-anchor", "ema": "EMA anchor", "copy": "anchor copied", "kl": "anchor by KL"}
_NAMES = {"kd": "kd", "fixed-plain": "self", "ema-plain": "ema"}
_FAMILIES = {"kd": "#0072B2", "kd-T4": "#56B4E9", "bc": "#7F7F7F", "plain": "#E69F00", "over": "#009E73"}
_LINES = {"fixed": "-", "ema": "--", "copy": "-.", "kl": ":"}
_LARGEST = 100.0  # nats; what has left that far behind is lost, and how far says nothing
_NAMES = {"kd": "KD, T = 1", "kd-T4": "KD, T = 4", "bc": "behaviour cloning"}


def label(contender: str) -> str:
    """A method as people read it."""
    anchor, _, target = contender.partition("-")
    if contender in _NAMES or anchor not in _ANCHORS:
        return _NAMES.get(contender, contender)
    return f"ADPO, {_ANCHORS[anchor]}, {'teacher' if target == 'plain' else 'teacher over anchor'}"


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Which students learn of which teachers."""

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

    part: ClassVar[str] = "distillation"

    def units(self) -> list[Unit]:
        """The programs to run.

        Raises:
          BenchmarkError: an unknown contender or environment.
        """
        refuse_unknown("contender", self.contenders, CONTENDERS)
        refuse_unknown("environment", self.envs, TEACHERS)
        common = (
            f"--agent adpo --total-steps {self.updates} --num-seeds {self.num_seeds} --batch-size {self.batch_size} "
            f"--num-states {self.num_states} {self.arguments}"
        )
        steps = {env: self._teacher_steps(env) for env in self.envs}
        return [
            Unit(env, name, self._flags(env, name, common), {"episodes": self.episodes, "teacher_steps": steps[env]})
            for env in self.envs
            for name in self.contenders
        ]

    @property
    def given(self) -> dict[str, Path]:
        """The teachers that are given, by environment."""
        return dict(zip(self.envs, self.teachers, strict=False))

    def _teacher_steps(self, env: str) -> int:
        """Environment steps behind a teacher: of the one that is given, or of the one that this file says to train."""
        if env in self.given:
            return load_policy(self.given[env]).step
        words = TEACHERS[env][0].split()
        return int(words[words.index("--total-steps") + 1])

    def _flags(self, env: str, contender: str, common: str) -> tuple[str, ...]:
        return tuple(shlex.split(f"--env {env} {common} {CONTENDERS[contender]}"))
