"""Rewards with diminishing returns: submodular policy gradient against additive rewards, greedy plans and the optimum.

    python benchmarks/submodular.py study         # results/submodular/submodular.json
    python benchmarks/submodular.py throughput    # results/submodular/throughput.json
    python benchmarks/submodular.py render        # tables into benchmarks/README.md, and the figures of results/submodular

Everyone who learns in an environment has the same settings and as many steps (`submodular_tasks.py`), all seeds side by side.
The study can be stopped at any time: the same command goes on with what is not done yet, or whose settings have changed.
"""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import tyro
from common import RESULTS, ROOT, command_line, exit_status
from multimodal_study import Result, Unit, refuse_unknown, study

NAME, SPEED = "submodular", "throughput"
_EPISODES = 16


@dataclasses.dataclass(frozen=True)
class Study:
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
    fresh: bool = False
    """Forget what was measured before."""
    output: Path = RESULTS / NAME
    """Folder of the results."""

    def units(self) -> list[Unit]:
        """What is measured: in each environment the references first.

        Raises:
          BenchmarkError: an unknown environment or contender.
        """
        from submodular_runs import REFERENCES
        from submodular_tasks import CONTENDERS, TASKS

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

    def run(self) -> Result:
        """Measures."""
        from submodular_runs import measure

        return study(NAME, self.units(), measure, self, self.output, self.fresh)

    def _flags(self, env: str, contender: str) -> tuple[str, ...]:
        from submodular_tasks import CONTENDERS, TASKS

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
    fresh: bool = False
    """Forget what was measured before."""
    output: Path = RESULTS / NAME
    """Folder of the results."""

    def units(self) -> list[Unit]:
        """What is measured: environments first, then set functions.

        Raises:
          BenchmarkError: an unknown environment.
        """
        from submodular_speed import FUNCTIONS, STEPPING, TRAINING, VISITS
        from submodular_tasks import SMALL, TASKS

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

    def run(self) -> Result:
        """Measures."""
        from submodular_speed import measure

        return study(SPEED, self.units(), measure, self, self.output, self.fresh)


@dataclasses.dataclass(frozen=True)
class Render:
    """Tables between the markers of benchmarks/README.md, and the figures, from what has been measured."""

    results: Path = RESULTS / NAME
    """Folder of the results."""
    readme: Path = ROOT / "benchmarks" / "README.md"
    """File with the markers."""

    def run(self) -> None:
        """Renders."""
        from submodular_tables import render

        render(self.results, self.readme)


def main() -> int:
    """Measures or renders; returns the exit status."""
    options = tyro.cli(Study | Throughput | Render, description=__doc__)
    if isinstance(options, Render):
        options.run()
        return 0
    return exit_status(options.run())


if __name__ == "__main__":
    command_line(main)
