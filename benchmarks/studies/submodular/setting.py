"""Who is trained where, and what is timed."""

from __future__ import annotations

import dataclasses
import shlex
from typing import ClassVar

from benchmarks.lab.study import Unit, refuse_unknown
from benchmarks.studies.submodular.speed import FUNCTIONS, STEPPING, TRAINING, VISITS
from benchmarks.studies.submodular.tasks import CONTENDERS, REFERENCES, SMALL, TASKS

_EPISODES = 16


@dataclasses.dataclass(frozen=True)
class Learning:
    """Plans, then trains everyone, environment by environment."""

    envs: tuple[str, ...] = ()
    """Environments, in this order; none for all."""
    contenders: tuple[str, ...] = ()
    """Who learns, as far as the environment has them; none for all."""
    num_seeds: int = 5
    """Seeds of each, all in one program."""
    share: float = 1.0
    """Of the steps and of the episodes of all environments, to try things out."""
    keys: int = 16
    """Greedy plans of an environment, which differ in what they draw among equals; 16 times as many where chance decides."""
    deep_keys: int = 4
    """The same of those that look further than a step."""

    part: ClassVar[str] = "learning"

    def units(self) -> list[Unit]:
        """What is measured: in each environment the references first.

        Raises:
          BenchmarkError: an unknown environment or contender.
        """
        refuse_unknown("environment", self.envs, TASKS)
        refuse_unknown("contender", self.contenders, CONTENDERS)
        units = []
        for env in self.envs or tuple(TASKS):
            task = TASKS[env]
            # Where chance decides, a plan is that of one episode, and many are needed for a mean.
            episodes = _EPISODES if task.samples > 1 else 1
            planned = {
                "keys": self.keys * episodes,
                "deep_keys": self.deep_keys * episodes,
                "lookahead": task.lookahead,
            }
            planned |= {"samples": task.samples, "episodes": max(int(512 * self.share), 8)}
            units.append(Unit(env, REFERENCES, (), planned))
            watched = {"evaluations": task.evaluations, "episodes": max(int(task.episodes * self.share), 2)}
            units += [
                Unit(env, contender, self._flags(env, contender), watched)
                for contender in task.contenders
                if not self.contenders or contender in self.contenders
            ]
        return units

    def _flags(self, env: str, contender: str) -> tuple[str, ...]:
        task = TASKS[env]
        steps = max(int(task.steps * self.share), task.num_envs * task.evaluations)
        seen = f"{env}-visited" if contender.endswith("-visited") else env
        return (
            *("--env", seen, "--num-envs", str(task.num_envs), "--total-steps", str(steps)),
            *("--num-seeds", str(self.num_seeds), *shlex.split(task.flags), *shlex.split(CONTENDERS[contender])),
        )


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Steps per second of training and of stepping alone, and visits per second of every set function."""

    envs: tuple[str, ...] = ()
    """Environments, in this order; none for all."""
    windows: int = 5
    """Measured whiles of each."""
    seconds: float = 1.0
    """Length of each, about."""
    num_envs: int = 128
    """Parallel trajectories of everything but the ant, which has those of the study."""

    part: ClassVar[str] = "throughput"

    def units(self) -> list[Unit]:
        """What is measured: environments first, then set functions.

        Raises:
          BenchmarkError: an unknown environment.
        """
        refuse_unknown("environment", self.envs, TASKS)
        measured = {"windows": self.windows, "seconds": self.seconds}
        units = []
        for env in self.envs or [env for env in TASKS if not env.startswith(SMALL)]:
            count = TASKS[env].num_envs if TASKS[env].num_envs < 128 else self.num_envs
            flags = ("--agent", "subpo", "--env", env, "--num-envs", str(count), *shlex.split(TASKS[env].flags))
            units += [Unit(env, part, flags, measured) for part in (TRAINING, STEPPING)]
        return units + [
            Unit(name, VISITS, (), measured | {"trajectories": self.num_envs, "elements": 40}) for name in FUNCTIONS
        ]
