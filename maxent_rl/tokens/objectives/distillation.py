"""Stages that learn from a teacher: its divergence as a token's loss, which rows it teaches, and its verdict as an advantage.

What they need of the teacher they ask for (`Stage.teaching`) and are given at each optimiser step (`TokenOutputs.compared`):
numbers for each token, whose gradient flows into the policy alone. A token at which that is not finite teaches nothing.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Count, Fraction, Positive, Weight, static
from maxent_rl.tokens import vocabulary
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import RewardStage, leave_out
from maxent_rl.tokens.objectives.shapes import Shape
from maxent_rl.tokens.objectives.stage import Comparison, Slot, Stage, Teaching, Work
from maxent_rl.types import PyTree


@struct.dataclass
class FromTeacher(Stage):
    """What stages have in common that make a loss of the divergence from a teacher; see `losses.teacher_divergence`."""

    distill_interpolation: Fraction = static(0.5)
    """0 for KL(teacher || policy), 1 for KL(policy || teacher), the divergence of Jensen and Shannon between (0.5)."""
    distill_top: Count | None = static(None)
    """Only so many of the policy's likeliest tokens are told apart; None for all."""
    distill_tail: bool = static(True)
    """Whether the others are then one choice more, or left out."""
    distill_sampled: bool = static(False)
    """Look at the token drawn alone, `sg(log P - log Q) log P`, in place of the vocabulary; of interpolation 1."""
    distill_nearness: Fraction = static(0.0)
    """How far the teacher's logits are first moved towards the policy's (SDPO's trust region, of a frozen teacher)."""
    distill_ratio_most: Positive | None = 2.0
    """Bound of the importance weight of each token, which is 1 on policy; None for no such weight."""

    def __post_init__(self) -> None:
        """Refuses a divergence that single tokens say nothing of."""
        if self.distill_sampled and self.distill_interpolation != 1:
            raise InvalidSettingError(
                f"--distill-sampled is of --distill-interpolation 1 alone, got {self.distill_interpolation:g}."
            )

    def compared(self) -> dict[str, Comparison]:
        """What `divergence` reads."""
        if self.distill_sampled:
            return {"teacher_log_prob": self.nearer(vocabulary.teacher_log_prob)}
        found = vocabulary.teacher_divergence(self.distill_interpolation, self.distill_top, self.distill_tail)
        return {"divergence": self.nearer(found)}

    def nearer(self, comparison: Comparison) -> Comparison:
        """The comparison with the teacher as near as it is to be."""
        return vocabulary.toward_policy(comparison, self.distill_nearness) if self.distill_nearness else comparison

    def divergence(self, work: Work) -> tuple[Array, Array]:
        """(loss [N, T] in nats, where it is known [N, T]); the importance weight is in it."""
        if self.distill_sampled:
            loss = losses.sampled_reverse_kl(work.outputs.logp, work.outputs.compared["teacher_log_prob"])
        else:
            loss = work.outputs.compared["divergence"]
        known = work.mask & jnp.isfinite(loss)
        if self.distill_ratio_most is not None:
            loss = loss * losses.truncated_weight(work.outputs.logp, work.batch.logp_old, self.distill_ratio_most)
        return jnp.where(known, loss, 0.0), known


@struct.dataclass
class Distillation(FromTeacher):
    """The divergence from a teacher as the loss of each token, on what the policy itself wrote.

    Source: GKD (arXiv 2306.13649), equation 2, with all responses the student's own; a share of them from elsewhere (its
    lambda) is a matter of what is in the batch.
    """

    slot: ClassVar[Slot] = "surrogate"

    def teaching(self, state: PyTree) -> Teaching:
        """The divergence; of the policy as reinforcement began, if nobody else is given."""
        return Teaching(self.compared(), teacher="frozen")

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T]."""
        loss, known = self.divergence(work)
        return state, measured(work, loss, known).replace(loss=loss)


@struct.dataclass
class HintedRows(RewardStage):
    """Only responses are learned from of which the teacher knows more: it is told another right response to the prompt.

    A response without a reward is none of them. The teacher is an average over the policy's steps.
    """

    needs: ClassVar[tuple[str, ...]] = ("taught",)
    success_threshold: Weight = 0.5
    """The least reward of a response that is right."""

    def teaching(self, state: PyTree) -> Teaching:
        """A teacher who is told."""
        return Teaching(hint="sibling", threshold=self.success_threshold, teacher="ema")

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Masks the other rows."""
        assert batch.taught is not None
        return state, leave_out(batch, ~(jnp.asarray(batch.taught, bool) & batch.scored))


@struct.dataclass
class AdvantageMix(Shape):
    """Mixes into each advantage how much likelier the teacher holds the token: `mix A + (1 - mix) sg(log Q - log P)`.

    The control of SRPO's routing: the gradient of the second part is that of KL(P || Q) over the vocabulary, and it is 0 for
    rows that the teacher does not know more of. The paper's own form could not be confirmed.

    Source: SRPO (arXiv 2604.02288), ablation "Advantage Mix", with a share of 0.9.
    """

    needs: ClassVar[tuple[str, ...]] = ("taught",)
    advantage_share: Fraction = 0.9
    """Share of the advantages as they were."""
    mix_threshold: Weight = 0.5
    """The least reward of a response that is right."""

    def teaching(self, state: PyTree) -> Teaching:
        """The log-probabilities of a teacher who is told a right response."""
        compared: dict[str, Comparison] = {"teacher_log_prob": vocabulary.teacher_log_prob}
        return Teaching(compared, hint="sibling", threshold=self.mix_threshold, teacher="ema")

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Changes the advantages [N, T]."""
        assert work.batch.taught is not None
        verdict = jax.lax.stop_gradient(work.outputs.compared["teacher_log_prob"] - work.outputs.logp)
        known = work.mask & jnp.asarray(work.batch.taught, bool)[:, None] & jnp.isfinite(verdict)
        mixed = self.advantage_share * work.advantages
        return state, work.replace(advantages=mixed + (1.0 - self.advantage_share) * jnp.where(known, verdict, 0.0))


def measured(work: Work, loss: Array, known: Array) -> Work:
    """With the mean divergence where it is known, and the share of tokens at which it is not."""
    return work.measure(
        **{
            "teacher/divergence": losses.masked_mean(loss, known),
            "teacher/unknown": losses.masked_mean((work.mask & ~known).astype(jnp.float32), work.mask),
        }
    )
