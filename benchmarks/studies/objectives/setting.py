"""Who competes on which tasks, with which budget, and who is searched for how."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from benchmarks.lab.study import Run, Unit, refuse_unknown
from maxent_rl.tokens import objectives
from maxent_rl.tokens.tasks import TokenTask, make_task

BASE = "grpo"
"""Whom all are compared with."""
START = "warm start"
"""The contender that learns nothing: where all begin."""

RATES = (1.5e-4, 3e-4, 5e-4, 8e-4, 1.2e-3)
"""Step sizes of Adam that are tried for everyone."""
DEFAULT_RATE = 3e-4
"""The one that everyone has without a search."""

AGENT: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
    "group_size": 8,
    "num_minibatches": 2,
    "warm_start_steps": 512_000,
    "warm_start_learning_rate": 2e-3,
}
"""Settings of `TokenAgent`, where they are not its defaults: two layers of width 32."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long policies learn on a task.

    Attributes:
      warm_loss: nats per token of right answers, at which imitating them ends.
      iterations: batches of responses that are learned from.
      sizes: of the task, where they are not its defaults.
      responses: in a batch, and right answers in one that is imitated.
      prompts: held-out ones of an examination, each answered once greedily and eight times at random.
    """

    warm_loss: float
    iterations: int
    sizes: tuple[tuple[str, int], ...] = ()
    responses: int = 128
    prompts: int = 256


BUDGETS = {
    "tokens/countdown": Budget(warm_loss=0.55, iterations=60),
    "tokens/scratch": Budget(warm_loss=0.55, iterations=30),
    # Of 97, a policy of this size says nothing right before some 400,000 answers have been imitated.
    "tokens/modular-addition": Budget(warm_loss=0.45, iterations=60, sizes=(("modulus", 30),)),
}
"""By task, in the order in which they are measured."""
LABELS = {
    "tokens/countdown": "countdown",
    "tokens/scratch": "scratch",
    "tokens/modular-addition": "addition modulo 30",
}
"""Tasks as people read them."""


def made(task: str) -> TokenTask[Any]:
    """A task of the study, with its sizes."""
    return make_task(task.partition("/")[2], **dict(BUDGETS[task].sizes))


VARIANTS = {
    "clip_higher": "grpo clip_high=0.28",
    "entropy_bonus": "grpo entropy_bonus=0.01",
    "clip_cov, small": "clip_cov clip_share=0.01",
    "kl_cov, small": "kl_cov kl_cov_share=0.01",
    "clip_b, small": "clip_b clip_b_width=2.0",
    "clip_v, small": "clip_v clip_v_width=2.5 clip_v_share=0.01",
    "lp_reg, small": "lp_reg lp_reg_share=0.2",
    "dcpo, small": (
        "dcpo target_entropy=0.6 estimate_from=vocabulary reinforce_most=1.0 hot_temperature=2.0 cold_temperature=0.5"
    ),
    "aepo_arbitrary, small": (
        "aepo_arbitrary target_entropy=0.6 estimate_from=vocabulary estimate_rows=main side_responses=32 side_share=1.0"
        " side_select=reward hot_temperature=2.0 cold_temperature=0.5"
    ),
    "entropy_target, 0.6": "entropy_target target_entropy=0.6",
}
"""Besides the names: with settings of the study of entropy collapse, whose reasons stand there. Papers' shares of the tokens
are less than one of a minibatch of this size, and their widths lie beyond the tails of a vocabulary of sixteen."""


def competitors() -> dict[str, str]:
    """By name: objective and settings. The one compared with first, then all named objectives, then variants."""
    names = [BASE, *(name for name in objectives.names() if name != BASE)]
    return {name: name for name in names} | VARIANTS


def split(text: str) -> tuple[str, tuple[str, ...]]:
    """(objective, settings) of an entry of `competitors`."""
    objective, *settings = text.split()
    return objective, tuple(settings)


def ordered(runs: Sequence[Run]) -> list[str]:
    """Who ran, in the order of `competitors`, then others by name."""
    known = [START, *competitors()]
    found = {run["contender"] for run in runs}
    return [name for name in known if name in found] + sorted(found - set(known))


@dataclasses.dataclass(frozen=True)
class Part(abc.ABC):
    """What both parts have in common."""

    tasks: tuple[str, ...] = tuple(BUDGETS)
    """Tasks, in this order."""
    contenders: tuple[str, ...] = ()
    """Objectives, or variants of this study; none for all of them."""
    num_seeds: int = 5
    """Seeds that are reported, from 0."""
    search_seeds: tuple[int, ...] = (100,)
    """Seeds by which learning rates are chosen."""

    part: ClassVar[str]

    @abc.abstractmethod
    def rates(self) -> dict[str, Any]:
        """How learning rates are found, for the record."""

    def known(self) -> dict[str, str]:
        """Who can run, by name: objective and settings."""
        return competitors()

    def units(self) -> list[Unit]:
        """A unit for each task and competitor.

        Raises:
          BenchmarkError: a name that there is not.
        """
        known = self.known()
        refuse_unknown("task", self.tasks, BUDGETS)
        refuse_unknown("contender", self.contenders, known)
        shared = {"agent": _text(AGENT), "seeds": self.num_seeds, "rates": _text(self.rates())}
        return [
            Unit(
                task, name, (), {"objective": known[name], "budget": _text(dataclasses.asdict(BUDGETS[task])), **shared}
            )
            for task in self.tasks
            for name in (self.contenders or tuple(known))
        ]


@dataclasses.dataclass(frozen=True)
class Defaults(Part):
    """Every named objective on every task, all with the same learning rate."""

    part: ClassVar[str] = "defaults"

    def rates(self) -> dict[str, Any]:
        """One for all."""
        return {"rate": DEFAULT_RATE}

    def known(self) -> dict[str, str]:
        """The warm start too, which learns nothing."""
        return {START: "", **super().known()}


@dataclasses.dataclass(frozen=True)
class Tuned(Part):
    """The same, each with the learning rate that a search has found for it, the same search for all."""

    part: ClassVar[str] = "tuned"

    def rates(self) -> dict[str, Any]:
        """The best of some on other seeds."""
        return {"rates": RATES, "seeds": self.search_seeds}


def _text(settings: dict[str, Any]) -> str:
    """On one line: the results hold it for every seed."""
    return " ".join(f"{name}={value}".replace(" ", "") for name, value in settings.items())
