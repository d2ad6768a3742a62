"""Who learns from which prompts, and how the contenders are called."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

from benchmarks.lab.study import Unit, refuse_unknown
from maxent_rl.tokens.agent import TokenAgent
from maxent_rl.tokens.tasks import Contexts, Layouts, TokenTask

NOISE = 0.5
"""Share of wrong answers in the warm start of the templates, so that reinforcement has something to learn."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "one": ("templates=1",),
    "four": ("templates=4",),
    "eight": ("templates=8",),
    # More prompts, but one form of answer: what the variety of prompts does by itself.
    "synonyms": ("templates=8", "kind=synonyms"),
    # Several forms of answer, of which none is paid for: what rewards for form do.
    "unpaid": ("templates=8", "format_rewards=false"),
}
"""Settings of the source `templates`, by contender."""

SYNTHESIS: dict[str, tuple[str, tuple[str, ...], float]] = {
    "static": ("task", (), 0.0),
    "uniform": ("synthesis", ("describe=random",), 0.0),
    "random": ("synthesis", (), 0.0),
    "learned": ("synthesis", (), 0.5),
}
"""By contender: source of prompts, its settings, and the weight of what descriptions are rewarded with."""

LABELS = {
    "one": "K = 1",
    "four": "K = 4",
    "eight": "K = 8",
    "synonyms": "8 synonyms",
    "unpaid": "K = 8, form unpaid",
    "static": "unchanged problems",
    "uniform": "contexts at random",
    "random": "described, not rewarded (λ = 0)",
    "learned": "described, rewarded (λ = 0.5)",
}


@dataclasses.dataclass(frozen=True)
class Part(abc.ABC):
    """What both parts have in common."""

    num_seeds: int = 5
    """Seeds of each contender, all in one program."""
    seed: int = 0
    """The first seed."""
    responses: int = 128
    """Responses of an iteration, in groups of 8."""
    iterations: int = 120
    """Iterations of reinforcement, of four optimiser steps each."""
    points: int = 6
    """Evaluations, evenly over them."""
    prompts: int = 24
    """Prompts of each kind in an evaluation, each answered eight times."""
    learning_rate: float = 1e-3
    """Step size of Adam in reinforcement."""

    part: ClassVar[str]
    warm_steps: int = 0

    def base(self) -> TokenAgent:
        """A small model, which everyone trains."""
        return TokenAgent(
            group_size=8,
            num_minibatches=4,
            learning_rate=self.learning_rate,
            warm_start_learning_rate=3e-3,
            warm_start_steps=10**9,
            warm_start_loss=0.0,
            num_layers=1,
            hidden_size=32,
            num_heads=2,
            num_key_value_heads=1,
            intermediate_size=64,
        )

    @abc.abstractmethod
    def agent(self, contender: str) -> TokenAgent:
        """What a contender learns by; "warm" is the warm start's."""

    @abc.abstractmethod
    def tasks(self) -> dict[str, TokenTask[Any]]:
        """By kind of problem: the task that poses it; the first one is learned."""

    @property
    @abc.abstractmethod
    def known(self) -> dict[str, Any]:
        """All contenders."""

    def units(self) -> list[Unit]:
        """One for each contender."""
        named: tuple[str, ...] = self.contenders  # type: ignore[attr-defined]
        refuse_unknown("contender", named, self.known)
        return [Unit(self.part, name, (), self._settings(name)) for name in named]

    def _settings(self, contender: str) -> dict[str, Any]:
        """All that decides the numbers."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if name != "contenders"}
        agent = dataclasses.asdict(self.agent(contender))
        return given | {"agent": agent, "tasks": {name: str(task) for name, task in self.tasks().items()}}


@dataclasses.dataclass(frozen=True)
class Templates(Part):
    """Templates of one form of answer, or several, with and without rewards for form."""

    warm_steps: int = 1_200
    """Optimiser steps of the warm start, on as many answers each as an iteration has responses."""
    contenders: tuple[str, ...] = tuple(TEMPLATES)
    """Who learns, in this order."""

    part: ClassVar[str] = "templates"

    @property
    def known(self) -> dict[str, Any]:
        """Those of the table."""
        return TEMPLATES

    def agent(self, contender: str) -> TokenAgent:
        """GRPO with the upper bound of the clip at 0.28 and dual clip 3, as in the paper."""
        settings = TEMPLATES.get(contender, (f"noise={NOISE}",))
        return self.base().replace(  # type: ignore[no-any-return, attr-defined]
            objective="grpo",
            objective_settings=("clip_high=0.28", "dual_clip=3"),
            prompts="templates",
            prompt_settings=settings,
        )

    def tasks(self) -> dict[str, TokenTask[Any]]:
        """Problems without a template, the one form in which everyone is evaluated."""
        return {"posed": Layouts(modulus=10)}


@dataclasses.dataclass(frozen=True)
class Long(Templates):
    """One template and eight, four times as long: what becomes of entropy that is low."""

    iterations: int = 480
    """Iterations of reinforcement, of four optimiser steps each."""
    points: int = 8
    """Evaluations, evenly over them."""
    contenders: tuple[str, ...] = ("one", "eight")
    """Who learns, in this order."""

    part: ClassVar[str] = "long"


@dataclasses.dataclass(frozen=True)
class Synthesis(Part):
    """Problems as they are, in contexts at random, and in contexts that the policy describes."""

    warm_steps: int = 800
    """Optimiser steps of the warm start, on as many answers each as an iteration has responses."""
    contenders: tuple[str, ...] = tuple(SYNTHESIS)
    """Who learns, in this order."""

    part: ClassVar[str] = "synthesis"

    @property
    def known(self) -> dict[str, Any]:
        """Those of the table."""
        return SYNTHESIS

    def agent(self, contender: str) -> TokenAgent:
        """GRPO, in which descriptions are credited apart."""
        prompts, settings, weight = SYNTHESIS.get(contender, ("task", (), 0.0))
        return self.base().replace(  # type: ignore[no-any-return, attr-defined]
            objective="syn_grpo_style",
            objective_settings=(f"span_weight={weight:g}",),
            prompts=prompts,
            prompt_settings=settings or None,
        )

    def tasks(self) -> dict[str, TokenTask[Any]]:
        """Up to one number besides, as it is learned, and five or six, as nobody poses them."""
        return {"posed": Contexts(), "harder": Contexts(least=5, most=6)}
