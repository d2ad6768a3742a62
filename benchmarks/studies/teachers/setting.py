"""Who learns from whom, on which task, and how the contenders are called."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

from benchmarks.lab.study import Unit, refuse_unknown
from maxent_rl.tokens.agent import TokenAgent
from maxent_rl.tokens.tasks import TokenTask, make_task

CHUNK = 20
"""Batches of right answers that one program imitates; warm starts are multiples of it."""
LABELS = {
    "grpo": "GRPO",
    "sdpo": "SDPO",
    "srpo": "SRPO",
    "likelihood": "SFT",
    "entropy-sft": "Entropy-SFT",
    "likelihood, shorter": "SFT, as many tokens",
    "ppo": "PPO, own start as reference",
    "salsa": "SALSA, soup as reference",
    "soup": "PPO that begins as the soup",
}
"""Contenders as people read them."""


class Stage(NamedTuple):
    """Right answers that are imitated, with Adam anew.

    Attributes:
      stream: which ones: equal streams pose equal prompts.
      batches: how many, a multiple of `CHUNK`.
    """

    stream: int
    batches: int


Growth = tuple[Stage, ...]
"""All the stages of a policy, from its first parameters on."""


class Begin(NamedTuple):
    """How a contender begins; policies are averages of what has grown.

    Attributes:
      policy: that learns.
      reference: its teacher, or that from which its divergence is counted.
      measured: by name, policies from which its divergence is measured.
    """

    policy: tuple[Growth, ...]
    reference: tuple[Growth, ...]
    measured: dict[str, tuple[Growth, ...]]


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
    """Responses of an iteration, in groups of 8, and right answers of a batch that is imitated."""
    iterations: int = 120
    """Iterations of reinforcement, of two optimiser steps each."""
    points: int = 12
    """Evaluations, evenly over them; a multiple of 4."""
    prompts: int = 128
    """Held-out prompts of an evaluation, each answered eight times."""
    learning_rate: float = 1e-3
    """Step size of Adam in reinforcement."""

    part: ClassVar[str]
    known: ClassVar[tuple[str, ...]]
    told: ClassVar[bool] = False

    def base(self) -> TokenAgent:
        """A small model, which everyone trains."""
        return TokenAgent(
            group_size=8,
            num_minibatches=2,
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

    @property
    @abc.abstractmethod
    def task(self) -> TokenTask[Any]:
        """What is learned."""

    @abc.abstractmethod
    def agent(self, contender: str) -> TokenAgent:
        """What a contender learns by, its warm start included."""

    @abc.abstractmethod
    def begin(self, contender: str) -> Begin:
        """How it begins."""

    def places(self) -> list[str]:
        """What the units are told apart by, besides their contenders."""
        return [self.part]

    def placed(self, place: str) -> Part:
        """The part at one of them."""
        return self

    def units(self) -> list[Unit]:
        """One for each place and contender.

        Raises:
          BenchmarkError: an unknown contender.
        """
        refuse_unknown("contender", self.contenders, self.known)
        names = self.contenders or self.known
        return [Unit(place, name, (), self.placed(place).settings(name)) for place in self.places() for name in names]

    def settings(self, contender: str) -> dict[str, Any]:
        """All that decides the numbers."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if name != "contenders"}
        own = {"agent": dataclasses.asdict(self.agent(contender)), "begin": self.begin(contender)._asdict()}
        return given | {"task": str(self.task), "chunk": CHUNK, **{name: str(value) for name, value in own.items()}}


@dataclasses.dataclass(frozen=True)
class Routing(Part):
    """Rewards, a teacher who is told a right answer, and either for whom it is good."""

    warm_batches: int = 400
    """Batches of right answers that are imitated, half of them told before."""

    part: ClassVar[str] = "srpo"
    known: ClassVar[tuple[str, ...]] = ("grpo", "sdpo", "srpo")
    told: ClassVar[bool] = True

    @property
    def task(self) -> TokenTask[Any]:
        """Of 97, a policy of this size says nothing right before some 400,000 answers have been imitated."""
        return make_task("modular-addition", modulus=30)

    def agent(self, contender: str) -> TokenAgent:
        """GRPO has the form that is SRPO's other half."""
        settings = ("scale=none", "clip_high=0.28") if contender == "grpo" else None
        return self.base().replace(  # type: ignore[no-any-return, attr-defined]
            objective=contender, objective_settings=settings, warm_start_hints=0.5
        )

    def begin(self, contender: str) -> Begin:
        """All as one, which is the teacher's beginning too."""
        one = ((Stage(1, self.warm_batches),),)
        return Begin(one, one, {})


@dataclasses.dataclass(frozen=True)
class WarmStarts(Part):
    """All tokens of right answers imitated, the hardest, and all of fewer answers."""

    iterations: int = 80
    """Iterations of reinforcement, of two optimiser steps each."""
    points: int = 8
    """Evaluations, evenly over them; a multiple of 4."""
    warm_batches: int = 200
    """Batches of right answers that are imitated; four fifths of them with as many tokens as Entropy-SFT learns."""

    part: ClassVar[str] = "warm-start"
    known: ClassVar[tuple[str, ...]] = ("likelihood", "entropy-sft", "likelihood, shorter")

    @property
    def task(self) -> TokenTask[Any]:
        """A task with many right answers, so that there is entropy to lose."""
        return make_task("countdown")

    def agent(self, contender: str) -> TokenAgent:
        """GRPO with the upper bound of the clip at 0.28 after any of them."""
        kind = contender.partition(",")[0]
        return self.base().replace(  # type: ignore[no-any-return, attr-defined]
            objective="grpo", objective_settings=("clip_high=0.28",), warm_start_objective=kind
        )

    def begin(self, contender: str) -> Begin:
        """With equal answers."""
        shorter = contender.endswith("shorter")
        one = ((Stage(1, self.warm_batches * 4 // 5 if shorter else self.warm_batches),),)
        return Begin(one, one, {})


@dataclasses.dataclass(frozen=True)
class Soups(Part):
    """The divergence from one's own start, or from the average of two that grew apart."""

    weights: tuple[float, ...] = (0.05,)
    """What a nat of divergence costs, per token, where a right answer is worth 1."""
    iterations: int = 80
    """Iterations of reinforcement, of two optimiser steps each."""
    points: int = 8
    """Evaluations, evenly over them; a multiple of 4."""
    warm_batches: int = 160
    """Batches of right answers that both imitate together."""
    tuned_batches: int = 80
    """Batches that each then imitates alone."""
    weight: float = 0.0
    """The one of a unit."""

    part: ClassVar[str] = "salsa"
    known: ClassVar[tuple[str, ...]] = ("ppo", "salsa", "soup")

    @property
    def task(self) -> TokenTask[Any]:
        """A task with many right answers."""
        return make_task("countdown")

    def places(self) -> list[str]:
        """The weights."""
        return [f"weight {weight:g}" for weight in self.weights]

    def placed(self, place: str) -> Part:
        """With one of the weights."""
        return dataclasses.replace(self, weights=(), weight=float(place.rpartition(" ")[2]))

    def agent(self, contender: str) -> TokenAgent:
        """The same for all: who the reference is does not change it."""
        return self.base().replace(  # type: ignore[no-any-return, attr-defined]
            objective="salsa", objective_settings=(f"kl_reward_weight={self.weight:g}",), teacher_kind="frozen"
        )

    def begin(self, contender: str) -> Begin:
        """As one of the two, or as their soup."""
        shared = Stage(1, self.warm_batches)
        first, second = ((shared, Stage(stream, self.tuned_batches)) for stream in (2, 3))
        alone, both = (first,), (first, second)
        return Begin(
            both if contender == "soup" else alone,
            alone if contender == "ppo" else both,
            {"start": alone, "soup": both},
        )
