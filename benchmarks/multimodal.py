"""How many right answers a policy holds: SAC against PMOE with every router, on tasks with several optima and on MuJoCo.

    python benchmarks/multimodal.py bandits      # maxent/TwoOptima and maxent/FourOptima
    python benchmarks/multimodal.py multigoal    # maxent/MultiGoal
    python benchmarks/multimodal.py mujoco       # HalfCheetah, Hopper, Walker2d, Ant
    python benchmarks/multimodal.py render       # tables into benchmarks/README.md, and results/multimodal.png

All seeds of a contender train in one program. A study can be stopped at any time: the same command goes on with what is not
done yet, or whose settings have changed. The settings are the two tables below; flags change them from call to call.
"""

from __future__ import annotations

import abc
import dataclasses
import shlex
from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import tyro
from common import RESULTS, ROOT, BenchmarkError, command_line, exit_status
from multimodal_study import Result, Unit, refuse_unknown, study
from multimodal_tables import table

ROUTERS = ("frequency", "score", "exact", "gumbel", "straight_through", "attention")
CHOOSING = ROUTERS[:3]
_PMOE = "--agent pmoe --router"

CONTENDERS = {
    "uniform": "",
    "sac": "--agent sac",
    **{router: f"{_PMOE} {router}" for router in ROUTERS},
    **{f"{router}-mixture": f"{_PMOE} {router} --density mixture" for router in CHOOSING},
    **{f"frequency-k{count}": f"{_PMOE} frequency --num-experts {count}" for count in (1, 2, 8)},
    **{f"exact-mixture-k{count}": f"{_PMOE} exact --density mixture --num-experts {count}" for count in (1, 2, 8)},
}
"""By name: flags of experiments/run.py that make the contender. Without -kN it has the number of experts of `SETTINGS`.
"uniform" is not trained: it shows what chance gives on the small tasks."""


class Settings(NamedTuple):
    """Flags of experiments/run.py on an environment: for everyone, and for pmoe besides. A contender's own count last."""

    everyone: str
    pmoe: str = ""


_SMALL = "--batch-size 128 --replay-size 20000 --hidden-sizes 64 64"
_FIXED = "--temperature-mode fixed --initial-temperature 0.1"
_BANDIT = f"{_SMALL} --total-steps 8000 --start-steps 1000 --learning-rate 1e-3 {_FIXED}"
_MULTIGOAL = (
    f"{_SMALL} --total-steps 40000 --start-steps 1000 --learning-rate 1e-3 --num-envs 8 --updates-per-step 0.25"
)
_APART = "--num-experts 4 --expert-spread 0.8 --expert-log-std -1.2"
_MUJOCO = "--eval-every 5000 --eval-episodes 10 --checkpoint-every 20000 --keep-checkpoints 1"

SETTINGS = {
    "maxent/TwoOptima": Settings(_BANDIT, _APART),
    "maxent/FourOptima": Settings(_BANDIT, _APART),
    "maxent/MultiGoal": Settings(_MULTIGOAL, _APART),
    **{env: Settings(_MUJOCO, "--num-experts 4") for env in ("HalfCheetah", "Hopper", "Walker2d", "Ant")},
}
"""By environment. What is not said here has its default."""


@dataclasses.dataclass(frozen=True)
class Study(abc.ABC):
    """What all parts have in common."""

    contenders: tuple[str, ...] = tuple(CONTENDERS)
    """Who runs, in this order."""
    num_seeds: int = 5
    """Seeds of each contender, all in one program."""
    seed: int = 0
    """The first seed."""
    total_steps: int | None = None
    """Environment steps of each seed; None for what the table says."""
    arguments: str = ""
    """Further flags of experiments/run.py for everyone, after the table's: `--arguments="--learning-rate 1e-3"`."""
    pmoe_arguments: str = ""
    """Further flags of experiments/run.py for pmoe alone, after the table's."""
    fresh: bool = False
    """Forget what was measured before."""
    output: Path = RESULTS
    """Folder of the results."""

    envs: tuple[str, ...] = ()
    """Environments, in this order."""

    name: ClassVar[str]

    def flags(self) -> tuple[str, ...]:
        """Flags of every contender that come from the flags of this study."""
        steps = () if self.total_steps is None else ("--total-steps", str(self.total_steps))
        return (*steps, "--num-seeds", str(self.num_seeds), "--seed", str(self.seed), *shlex.split(self.arguments))

    def measured(self) -> dict[str, float]:
        """What else decides the numbers."""
        return {}

    def units(self) -> list[Unit]:
        """The programs to run, environment by environment.

        Raises:
          BenchmarkError: an unknown contender or environment.
        """
        refuse_unknown("contender", self.contenders, CONTENDERS)
        refuse_unknown("environment", self.envs, SETTINGS)
        return [
            Unit(env, contender, self._all_flags(env, contender), self.measured())
            for env in self.envs
            for contender in self.contenders
        ]

    @abc.abstractmethod
    def run(self) -> Result:
        """Measures what is not done yet."""

    def _all_flags(self, env: str, contender: str) -> tuple[str, ...]:
        settings, own = SETTINGS[env], CONTENDERS[contender]
        pmoe, more = (settings.pmoe, self.pmoe_arguments) if "pmoe" in own else ("", "")
        before = shlex.split(f"--env {env} {settings.everyone} {pmoe} {own}")
        return (*before, *self.flags(), *shlex.split(more))


@dataclasses.dataclass(frozen=True)
class _Toys(Study):
    episodes: int = 2000
    """Sampled episodes of each seed."""
    least_share: float = 0.1
    """Share of them that must come to an optimum for it to count as covered."""
    mode_episodes: int = 20
    """Episodes of each seed with the most likely actions."""

    def measured(self) -> dict[str, float]:
        """What is sampled, and when an optimum counts."""
        names = ("episodes", "least_share", "mode_episodes")
        return {name: getattr(self, name) for name in names}

    def run(self) -> Result:
        """Trains and samples in this process."""
        from multimodal_toys import measure_toy

        return study(self.name, self.units(), measure_toy, self, self.output, self.fresh)


@dataclasses.dataclass(frozen=True)
class Bandits(_Toys):
    """One action, several equally good ones: which of them are sampled."""

    envs: tuple[str, ...] = ("maxent/TwoOptima", "maxent/FourOptima")
    """Environments, in this order."""

    name: ClassVar[str] = "multimodal-bandits"


@dataclasses.dataclass(frozen=True)
class Multigoal(_Toys):
    """A point mass and four goals: at which of them sampled episodes end."""

    envs: tuple[str, ...] = ("maxent/MultiGoal",)
    """Environments, in this order."""
    episodes: int = 200
    """Sampled episodes of each seed."""
    least_share: float = 0.05
    """Share of them that must end at a goal for it to count as covered."""

    name: ClassVar[str] = "multimodal-multigoal"


@dataclasses.dataclass(frozen=True)
class Mujoco(Study):
    """Evaluation returns on MuJoCo, each contender a process of its own."""

    contenders: tuple[str, ...] = ("sac", *ROUTERS, "frequency-k1", "frequency-k2", "frequency-k8")
    """Who runs, in this order."""
    num_seeds: int = 3
    """Seeds of each contender, all in one program."""
    total_steps: int | None = 200_000
    """Environment steps of each seed."""
    envs: tuple[str, ...] = ("HalfCheetah", "Hopper", "Walker2d", "Ant")
    """Environments, in this order."""
    preset: str | None = "fast"
    """Preset of experiments/run.py; None for the agents' defaults."""

    name: ClassVar[str] = "multimodal-mujoco"

    def flags(self) -> tuple[str, ...]:
        """As for all studies, with the preset."""
        return (*(("--preset", self.preset) if self.preset else ()), *super().flags())

    def units(self) -> list[Unit]:
        """As for all studies; uniform actions are not a run of experiments/run.py."""
        if "uniform" in self.contenders:
            raise BenchmarkError("'uniform' is a contender of bandits and multigoal alone.")
        return super().units()

    def run(self) -> Result:
        """Runs experiments/run.py for each unit."""
        from continued_run import measure_run
        from multimodal_mujoco import read_seeds

        measure = partial(measure_run, self.output.absolute() / "multimodal-runs", read_seeds)
        return study(self.name, self.units(), measure, self, self.output, self.fresh)


@dataclasses.dataclass(frozen=True)
class Render:
    """Tables between the markers of benchmarks/README.md, and the figure, from what has been measured."""

    results: Path = RESULTS
    """Folder with the results."""
    readme: Path = ROOT / "benchmarks" / "README.md"
    """File with the markers."""
    figure: Path = RESULTS / "multimodal.png"
    """Figure to write."""
    show: tuple[str, ...] = ("sac", "frequency", "exact-mixture")
    """Contenders whose samples are drawn; three are easy to look at."""
    curves: tuple[str, ...] = Mujoco.contenders[:7]
    """Contenders whose learning curves are drawn."""

    def run(self) -> None:
        """Renders."""
        from multimodal_tables import render

        render(self.results, self.readme, self.figure, self.show, self.curves, tuple(CONTENDERS))


def main() -> int:
    """Measures or renders; returns the exit status."""
    options = tyro.cli(Bandits | Multigoal | Mujoco | Render, description=__doc__)
    if isinstance(options, Render):
        options.run()
        return 0
    result = options.run()
    print(table(result, tuple(CONTENDERS)))
    return exit_status(result)


if __name__ == "__main__":
    command_line(main)
