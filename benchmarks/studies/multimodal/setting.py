"""Who is trained where, with which flags, and how the contenders are called."""

from __future__ import annotations

import dataclasses
import re
import shlex
from typing import ClassVar, NamedTuple

from benchmarks.lab.measure import BenchmarkError
from benchmarks.lab.study import Unit, refuse_unknown

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

ESTIMATED = {
    "frequency": "cost",
    "frequency, for its own target": "frequency",
    "score": "cost",
    "exact": "cost",
    "exact, with the router's entropy": "cost and entropy",
    "gumbel, relaxation 1": "cost",
    "gumbel, relaxation 0.2": "cost",
    "straight-through, relaxation 1": "cost",
    "straight-through, relaxation 0.2": "cost",
}
"""Estimators of the router's gradient, and which exact gradient each is held against."""

_LABELS = {"sac": "SAC", "uniform": "uniform actions"}


def label(contender: str) -> str:
    """A contender as people read it."""
    if contender in _LABELS:
        return _LABELS[contender]
    name = contender.replace("straight_through", "straight-through").replace("-mixture", ", mixture density")
    return re.sub(r"-k(\d+)$", r", K = \1", name)


@dataclasses.dataclass(frozen=True)
class Training:
    """What all parts that train have in common."""

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
    envs: tuple[str, ...] = ()
    """Environments, in this order."""

    part: ClassVar[str]

    def flags(self) -> tuple[str, ...]:
        """Flags of every contender that come from the flags of this part."""
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

    def _all_flags(self, env: str, contender: str) -> tuple[str, ...]:
        settings, own = SETTINGS[env], CONTENDERS[contender]
        pmoe, more = (settings.pmoe, self.pmoe_arguments) if "pmoe" in own else ("", "")
        before = shlex.split(f"--env {env} {settings.everyone} {pmoe} {own}")
        return (*before, *self.flags(), *shlex.split(more))


@dataclasses.dataclass(frozen=True)
class Toys(Training):
    """What the small tasks have in common: episodes are sampled, and it is counted where they come to."""

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


@dataclasses.dataclass(frozen=True)
class Bandits(Toys):
    """One action, several equally good ones: which of them are sampled."""

    envs: tuple[str, ...] = ("maxent/TwoOptima", "maxent/FourOptima")
    """Environments, in this order."""

    part: ClassVar[str] = "bandits"


@dataclasses.dataclass(frozen=True)
class Multigoal(Toys):
    """A point mass and four goals: at which of them sampled episodes end."""

    envs: tuple[str, ...] = ("maxent/MultiGoal",)
    """Environments, in this order."""
    episodes: int = 200
    """Sampled episodes of each seed."""
    least_share: float = 0.05
    """Share of them that must end at a goal for it to count as covered."""

    part: ClassVar[str] = "multigoal"


@dataclasses.dataclass(frozen=True)
class Mujoco(Training):
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

    part: ClassVar[str] = "mujoco"

    def flags(self) -> tuple[str, ...]:
        """As for all studies, with the preset."""
        return (*(("--preset", self.preset) if self.preset else ()), *super().flags())

    def units(self) -> list[Unit]:
        """As for all studies; uniform actions are not a run of experiments/run.py."""
        if "uniform" in self.contenders:
            raise BenchmarkError("'uniform' is a contender of bandits and multigoal alone.")
        return super().units()


@dataclasses.dataclass(frozen=True)
class Gradients:
    """Bias and noise of the router's gradient estimates, where the exact gradient is known."""

    seeds: int = 3
    """Times that every estimator is measured; run s draws from seed s."""
    draws: int = 20_000
    """Draws of each run."""

    part: ClassVar[str] = "gradients"

    def units(self) -> list[Unit]:
        """One for each estimator."""
        return [
            Unit("maxent/FourOptima", name, (), {"seeds": self.seeds, "draws": self.draws, "target": target})
            for name, target in ESTIMATED.items()
        ]
