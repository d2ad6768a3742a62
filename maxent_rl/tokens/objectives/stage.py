"""A stage of an objective: what it is, and what stages hand to each other."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeAlias

from flax import struct
from jax import Array

from maxent_rl.settings import Settings
from maxent_rl.tokens.batch import TokenBatch, TokenOutputs
from maxent_rl.tokens.branching import Branching
from maxent_rl.tokens.objectives.replaying import Replay
from maxent_rl.types import Metrics, PyTree

Slot: TypeAlias = Literal["reward", "advantage", "credit", "shape", "surrogate", "regulariser", "aggregate"]


Statistic: TypeAlias = Callable[[Array, Array], Array]
"""What a stage asks of a whole vocabulary: (log_probs [..., V], tokens [...]) to [...]."""
Comparison: TypeAlias = Callable[[Array, Array, Array], Array]
"""What a stage asks of policy and teacher: (log_probs [..., V], the teacher's [..., V], tokens [...]) to [...]."""
Hint: TypeAlias = Literal["none", "sibling", "answer"]
"""What a teacher is told before the prompt: nothing, another response of the group that is right, or a right answer."""
TeacherName: TypeAlias = Literal["ema", "frozen", "self", "policies"]
"""Who teaches: an average over the policy's steps, the policy as reinforcement began, the policy itself, or others."""
TokenTemperature: TypeAlias = Callable[[Array], Array]
"""From the entropy [...] of the policy where a token is to be drawn, in nats, to the factor [...] of its temperature."""


@struct.dataclass
class Work:
    """What the stages of one optimiser step hand to each other.

    Attributes:
      outputs: of the policy that learns; masked positions are 0.
      batch: the responses; masked positions are 0.
      mask: [N, T] bool.
      advantages: [N, T].
      ratio: [N, T] importance ratio.
      loss: [N, T] of the surrogate; a regulariser may replace it at some tokens.
      clipped: [N, T] int32 -1 or 1 where the surrogate has cut the gradient at its lower or upper bound.
      penalty: [N, T] what regularisers add.
      extra: [] what they add beside the average over tokens; of a part of a step so that the mean over equal parts is right.
      total: [] the loss, once aggregated.
      clip_low: [N, T] or None: bounds that a shape stage sets in place of the surrogate's own.
      clip_high: likewise.
      kl_weight: [N, T] or None: factor of each token's divergence from the reference (`KLPenalty`).
      weight: [N, T] or None: factor of the surrogate's loss.
      kept: [N, T] or None: 0 where only some tokens count and this is none of them, elsewhere all tokens over those that do.
      found: [N, T, ...] or None: what the stage that is called found in the whole step (`Stage.survey`).
      metrics: scalars.
    """

    outputs: TokenOutputs
    batch: TokenBatch
    mask: Array
    advantages: Array
    ratio: Array
    loss: Array
    clipped: Array
    penalty: Array
    extra: Array
    total: Array
    clip_low: Array | None = None
    clip_high: Array | None = None
    kl_weight: Array | None = None
    weight: Array | None = None
    kept: Array | None = None
    found: Array | None = None
    metrics: Metrics = dataclasses.field(default_factory=dict)

    def replace(self, **changes: Any) -> Work:
        """A copy with other values."""
        return dataclasses.replace(self, **changes)

    def measure(self, **metrics: Array) -> Work:
        """A copy with further metrics."""
        return dataclasses.replace(self, metrics=self.metrics | metrics)


class Stage(Settings):
    """One step of an objective; subclasses are `flax.struct` dataclasses and override what they need.

    Attributes:
      slot: where it stands.
      needs: fields of the batch ("logp_ref", "entropy_old", "tokens", "truncated") or of the outputs ("entropy") that it
        reads and that may be missing.
      whole_groups: whether it compares the responses of a group at each step, so that a minibatch must not cut any.
    """

    slot: ClassVar[Slot]
    needs: ClassVar[tuple[str, ...]] = ()
    whole_groups: ClassVar[bool] = False

    def init(self, key: Array) -> PyTree:
        """The state that it carries from call to call; stages that do not override this have none."""
        return ()

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """What it does once to each whole batch of responses, without gradient."""
        return state, batch

    def counts(self, batch: TokenBatch, counts: dict[str, Array]) -> dict[str, Array]:
        """What each row of a prepared batch adds to the counts of a step, by name, each [N]: those so far, and its own.

        What a stage divides by at a step must be one of these, `work.batch.count(name, here)`: the rows that it has before it
        may be a part of the step.
        """
        return counts

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """What must see all tokens of an optimiser step, such as a choice among them.

        Called before `__call__`, and once for a step that is learned from in parts. It sets `work.found` [N, T] (or with
        further axes), without gradient, of which `__call__` then has its rows. A state that looks at a whole step moves
        here.
        """
        return state, work

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """What it does at each optimiser step, or part of one: row by row, and nothing that depends on the other rows.

        Where its state moves here, and not in `survey`, it moves by a sum over parts: these may be seen side by side
        (`Objective.merge`).
        """
        return state, work

    def statistics(self, state: PyTree) -> dict[str, Statistic]:
        """What it needs of the whole vocabulary of the policy that draws the responses, by name."""
        return {}

    def teaching(self, state: PyTree) -> Teaching:
        """What it wants of a teacher at each optimiser step; nothing, unless it says so."""
        return Teaching()

    def sampling(self, state: PyTree) -> Sampling:
        """What it wants of how the next responses are drawn; nothing, unless it says so."""
        return Sampling()

    @property
    def active(self) -> bool:
        """Whether it does anything; a stage that is switched off is left out of the chain."""
        return True

    @property
    def inputs(self) -> tuple[str, ...]:
        """`needs`, unless its settings decide what it reads."""
        return self.needs

    @property
    def surveys(self) -> bool:
        """Whether it must see all tokens of an optimiser step."""
        return type(self).survey is not Stage.survey

    @property
    def title(self) -> str:
        """Its name in messages."""
        return type(self).__name__


@struct.dataclass
class Teaching:
    """What an objective wants of a teacher; what is None, or empty, it leaves to others.

    Attributes:
      compared: by name, functions of what policy and teacher say of the whole vocabulary, as `token_statistics(compared=...)`
        takes them. What comes out at each optimiser step belongs into `TokenOutputs.compared`.
      hint: what the teacher is told before the prompt. `TokenBatch.taught` says which rows it is told anything in.
      threshold: [] the least reward of a response that is right, as a hint.
      teacher: who teaches, where nobody says anything else.
    """

    compared: dict[str, Comparison] = struct.field(pytree_node=False, default_factory=dict)  # type: ignore[no-untyped-call]
    hint: Hint | None = struct.field(pytree_node=False, default=None)  # type: ignore[no-untyped-call]
    threshold: Array | float | None = None
    teacher: TeacherName | None = struct.field(pytree_node=False, default=None)  # type: ignore[no-untyped-call]

    def joined(self, other: Teaching) -> Teaching:
        """Both wishes; where both say the same thing, that of the first holds."""
        return Teaching(
            compared={**other.compared, **self.compared},
            hint=other.hint if self.hint is None else self.hint,
            threshold=other.threshold if self.threshold is None else self.threshold,
            teacher=other.teacher if self.teacher is None else self.teacher,
        )


@struct.dataclass
class Side:
    """Responses drawn besides the batch, to the first prompts of it, with as many to each.

    Attributes:
      share: the fraction of the prompts, at least one.
      temperature: [] at which they are drawn; their log-probabilities are taken at that of the batch.
    """

    share: float = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    temperature: Array

    def prompts(self, of: int) -> int:
        """How many of `of` prompts are answered once more."""
        return max(int(of * self.share), 1)


@struct.dataclass
class Sampling:
    """What an objective wants of how responses are drawn; what is None stays as it would be without it.

    Attributes:
      side: further responses, besides the batch.
      temperature: a pytree that gives the factor of each token's temperature. The log-probabilities of the batch stay those
        of the policy's own temperature; those of what was drawn from are `TokenBatch.logp_drawn`.
      teaches: which groups of a drawn batch it can learn from, [N] bool, equal within a group: those that it cannot are
        replaced, where a trainer samples in rounds. None for those whose rewards differ.
      branching: how conversations are continued from one another, where a task replies; None for not at all.
      replay: which responses of earlier iterations are to be learned from again (`Objective.replayed`); None for none.
    """

    side: Side | None = None
    temperature: TokenTemperature | None = None
    teaches: Callable[[TokenBatch], Array] | None = struct.field(pytree_node=False, default=None)  # type: ignore[no-untyped-call]
    branching: Branching | None = None
    replay: Replay | None = None

    def joined(self, other: Sampling) -> Sampling:
        """Both wishes; where both say the same thing, that of the first holds."""
        names = [field.name for field in dataclasses.fields(self)]
        mine = {name: getattr(self, name) for name in names}
        return Sampling(**{name: getattr(other, name) if mine[name] is None else mine[name] for name in names})


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named objective.

    Attributes:
      about: what it is, in a sentence.
      source: the paper.
      stages: what it is made of.
    """

    about: str
    source: str
    stages: tuple[Stage, ...]


def stage_name(kind: type[Stage]) -> str:
    """The name of a stage before one of its settings: ClipCov to clip_cov, KLPenalty to kl_penalty, DCPO to dcpo."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind.__name__).lower()
