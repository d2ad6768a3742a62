"""Who learns how, on which task, and how the contenders are called."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

from benchmarks.lab.study import Unit, refuse_unknown
from maxent_rl.tokens.agent import TokenAgent
from maxent_rl.tokens.branching import Forks
from maxent_rl.tokens.tasks import TokenTask, make_task

CHUNK = 20
"""Batches of demonstrations that one program imitates; warm starts are multiples of it."""


class Arm(NamedTuple):
    """A contender.

    Attributes:
      label: as people read it.
      objective: its name.
      settings: of the objective.
    """

    label: str
    objective: str
    settings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Part(abc.ABC):
    """What all parts have in common."""

    contenders: tuple[str, ...] = ()
    """Who learns, in this order; none for all."""
    num_seeds: int = 5
    """Seeds of each contender, all in one program."""
    seed: int = 0
    """The first seed."""
    responses: int = 128
    """Conversations of an iteration, in groups of 8, and demonstrations of a batch that is imitated."""
    warm_batches: int = 1000
    """Batches of demonstrations that are imitated first; seven in ten of them guess."""
    iterations: int = 96
    """Iterations of reinforcement, of two optimiser steps for each epoch."""
    points: int = 8
    """Evaluations, evenly over them; a multiple of 4."""
    prompts: int = 64
    """Held-out prompts of an evaluation, each talked about eight times."""
    learning_rate: float = 3e-4
    """Step size of Adam in reinforcement."""
    epochs: int = 1
    """Times that an iteration goes over its conversations."""

    part: ClassVar[str]
    arms: ClassVar[dict[str, Arm]]

    @property
    def task(self) -> TokenTask[Any]:
        """Two values, told one at a time, of which the largest is wanted: asking decides how sure the answer can be."""
        return make_task("look-up")

    def agent(self, contender: str) -> TokenAgent:
        """A small model, which everyone trains."""
        arm = self.arms[contender]
        return TokenAgent(
            objective=arm.objective,
            objective_settings=arm.settings or None,
            group_size=8,
            num_minibatches=2,
            num_epochs=self.epochs,
            learning_rate=self.learning_rate,
            warm_start_learning_rate=3e-3,
            warm_start_steps=10**9,
            warm_start_loss=0.0,
            num_layers=2,
            hidden_size=32,
            num_heads=2,
            num_key_value_heads=1,
            intermediate_size=64,
        )

    def units(self) -> list[Unit]:
        """One for each contender.

        Raises:
          BenchmarkError: an unknown contender.
        """
        refuse_unknown("contender", self.contenders, tuple(self.arms))
        return [Unit(self.part, name, (), self.settings(name)) for name in self.contenders or self.arms]

    def settings(self, contender: str) -> dict[str, Any]:
        """All that decides the numbers."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if name != "contenders"}
        return given | {"task": str(self.task), "chunk": CHUNK, "agent": str(dataclasses.asdict(self.agent(contender)))}


@dataclasses.dataclass(frozen=True)
class Modulation(Part):
    """Advantages that grow with how sure a turn is, and a bonus for a sure next one."""

    part: ClassVar[str] = "empg"
    arms: ClassVar[dict[str, Arm]] = {
        "grpo": Arm("GRPO", "grpo"),
        "empg": Arm("EMPG", "empg"),
        "scale": Arm("EMPG, scale alone", "empg", ("clarity_bonus=0",)),
        "bonus": Arm("EMPG, bonus alone", "empg", ("entropy_scale=0",)),
    }


@dataclasses.dataclass(frozen=True)
class Corridor(Part):
    """A bonus for entropy, and penalties outside a corridor around its history."""

    part: ClassVar[str] = "epo"
    arms: ClassVar[dict[str, Arm]] = {
        "none": Arm("GRPO", "epo", ("turn_entropy_bonus=0", "corridor_batches=96")),
        "bonus": Arm("bonus alone", "epo", ("turn_entropy_bonus=0.03", "corridor_weight=0", "corridor_batches=96")),
        "published": Arm("EPO v2, published weights", "epo", ("turn_entropy_bonus=0.03", "corridor_batches=96")),
        "indicator": Arm(
            "EPO v1, weight 2",
            "epo",
            (
                *("turn_entropy_bonus=0.03", "corridor_weight=2", "corridor_low=0.7", "corridor_high=1.3"),
                *("epo_penalty=indicator", "corridor_batches=96"),
            ),
        ),
        "hinge": Arm(
            "EPO v2, weight 2",
            "epo",
            (
                *("turn_entropy_bonus=0.03", "corridor_weight=2", "corridor_low=0.7", "corridor_high=1.3"),
                "corridor_batches=96",
            ),
        ),
    }


@dataclasses.dataclass(frozen=True)
class Balance(Part):
    """The upper clip with and without a gradient, over four epochs, without forks: in one alone no ratio leaves it."""

    epochs: int = 4
    """Times that an iteration goes over its conversations."""
    iterations: int = 40
    """Iterations of reinforcement, of two optimiser steps for each epoch."""
    points: int = 8
    """Evaluations, evenly over them; a multiple of 4."""

    part: ClassVar[str] = "aepo"
    arms: ClassVar[dict[str, Arm]] = {
        "clip": Arm("GRPO, dual clip", "grpo", ("dual_clip=3",)),
        "bound": Arm(
            "clip that keeps its gradient", "aepo_agentic", ("entropy_advantage=0", "fork_conversations=false")
        ),
        "aepo": Arm("agentic AEPO", "aepo_agentic", ("fork_conversations=false",)),
    }


@dataclasses.dataclass(frozen=True)
class Forked(Part):
    """Nobody learns: the policy after its warm start talks, and conversations fork where it is unsure."""

    iterations: int = 0
    """None."""
    points: int = 0
    """None."""
    size: int = 16
    """Conversations to a prompt in all."""
    roots: int = 8
    """How many of them begin at the prompt."""

    part: ClassVar[str] = "forks"
    arms: ClassVar[dict[str, Arm]] = {
        "no penalty": Arm("without a penalty", "grpo", ("0",)),
        "penalty": Arm("penalty 0.05", "grpo", ("0.05",)),
        "heavy": Arm("penalty 0.2", "grpo", ("0.2",)),
    }

    @property
    def task(self) -> TokenTask[Any]:
        """Four values and six turns, so that there are rounds in a row."""
        return make_task("look-up", operands=4)

    def agent(self, contender: str) -> TokenAgent:
        """The one that is warmed up."""
        return super().agent(contender).replace(objective_settings=None)  # type: ignore[no-any-return, attr-defined]

    def forks(self, contender: str) -> Forks:
        """How its conversations fork."""
        return Forks(size=self.size, roots=self.roots, round_penalty=float(self.arms[contender].settings[0]))

    def settings(self, contender: str) -> dict[str, Any]:
        """All that decides the numbers."""
        return super().settings(contender) | {"forks": str(self.forks(contender))}


@dataclasses.dataclass(frozen=True)
class Imitation(Part):
    """A reward for calls of the tool that fades or stays, and wins of before that are imitated."""

    part: ClassVar[str] = "spear"
    arms: ClassVar[dict[str, Arm]] = {
        "dr_bot": Arm("Dr.BoT", "dr_bot"),
        "fading": Arm("fading reward for calls", "dr_bot", ("call_schedule=cosine", "call_iterations=64")),
        "constant": Arm("constant reward for calls", "dr_bot", ("call_schedule=constant",)),
        "imitation": Arm("imitation alone", "dr_bot", ("replay_weight=1", "replay_rise=64", "replay_calls=true")),
        "spear": Arm("SPEAR", "spear", ("call_iterations=64", "replay_rise=64")),
    }

    @property
    def task(self) -> TokenTask[Any]:
        """One hidden number, to be asked for and said; two demonstrations in five ask, the others guess among ten."""
        return make_task("query-sum", operands=1, guesses=0.6)


PARTS = (Modulation, Corridor, Balance, Forked, Imitation)
LABELS = {plan.part: {name: arm.label for name, arm in plan.arms.items()} for plan in PARTS}
"""By part, contenders as people read them."""
