"""SRPO: right responses learn from rewards, wrong ones from a teacher who was shown a right one; and SDPO, its second half.

The teacher is an average over the policy's steps that reads another right response of the group before the prompt. Where it
is sure it counts more. One count of tokens is the denominator of both halves, so that no coefficient weighs them.

Source: Unifying Group-Relative and Self-Distillation Policy Optimization via Sample Routing (arXiv 2604.02288); SDPO:
Reinforcement Learning via Self-Distillation (arXiv 2601.20802), in the form of its released code. Not confirmed: whether SRPO
divides rewards by their deviation (its formula does, its baseline does not: `scale` is none here), the lower clip of 0.2,
and over what the weights have the mean 1: here it is the optimiser step. With `distill_top` the teacher's entropy is that of
the choices that are told apart. SDPO's recipe also weighs tokens by the sampler's probabilities (`sampler_level="token"`) and
shows textual feedback of the environment, where there is any: a trainer that has some sets `taught` and its own hints.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.settings import Weight
from maxent_rl.tokens import vocabulary
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.distillation import Distillation, FromTeacher, HintedRows, measured
from maxent_rl.tokens.objectives.stage import Preset, Slot, Teaching, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree


@struct.dataclass
class SampleRouting(FromTeacher):
    """Replaces the loss of wrong responses, where the teacher was shown a right one, by the divergence from it.

    Tokens weigh `exp(-certainty H)` of the teacher's entropy H, with the mean 1 over all such tokens of the step. The
    advantages of the others stay those among all responses of the group.
    """

    slot: ClassVar[Slot] = "regulariser"
    needs: ClassVar[tuple[str, ...]] = ("taught",)
    srpo_certainty: Weight = 1.0
    """beta: how much more a sure teacher counts, per nat of its entropy; 0 for all alike."""
    srpo_threshold: Weight = 0.5
    """The least reward of a response that is right, and so learns from its reward; others may be shown it."""

    def teaching(self, state: PyTree) -> Teaching:
        """The divergence from a teacher who is told a right response, and its entropy."""
        entropy = vocabulary.teacher_entropy(self.distill_top, self.distill_tail)
        compared = self.compared() | {"teacher_entropy": self.nearer(entropy)}
        return Teaching(compared, hint="sibling", threshold=self.srpo_threshold, teacher="ema")

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Finds the weights [N, T], whose mean is 1 over all routed tokens of the step."""
        entropy = jax.lax.stop_gradient(work.outputs.compared["teacher_entropy"])
        there = self.routed(work.batch)[:, None] & self.divergence(work)[1] & jnp.isfinite(entropy)
        return state, work.replace(found=certainty_weights(entropy, there, self.srpo_certainty))

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Replaces the loss [N, T] of the routed rows, which no clip holds."""
        weight = work.found
        assert weight is not None
        routed = self.routed(work.batch)[:, None] & work.mask
        loss, known = self.divergence(work)
        entropy = jax.lax.stop_gradient(work.outputs.compared["teacher_entropy"])
        work = measured(work, loss, routed & known).measure(
            **{
                "srpo/routed": losses.masked_mean(routed.astype(jnp.float32), work.mask),
                "teacher/entropy": losses.masked_mean(entropy, routed & known & jnp.isfinite(entropy)),
            }
        )
        return state, work.replace(
            loss=jnp.where(routed, weight * loss, work.loss), clipped=jnp.where(routed, 0, work.clipped)
        )

    def routed(self, batch: TokenBatch) -> Array:
        """[N] bool: which rows learn from the teacher: wrong ones that it is told a right response for."""
        assert batch.taught is not None
        wrong = jnp.asarray(batch.rewards, jnp.float32) < self.srpo_threshold
        return jnp.asarray(batch.taught, bool) & wrong & batch.scored


def certainty_weights(entropy: Array, there: Array, certainty: Weight) -> Array:
    """`exp(-certainty H)` over its mean.

    Args:
      entropy: [N, T] H of the teacher, in nats.
      there: [N, T] bool: the tokens that are weighed, and over which the mean is taken.
      certainty: [] beta, at least 0.

    Returns:
      [N, T] with the mean 1 over those, 0 elsewhere.

    Source: arXiv 2604.02288, dynamic weights.
    """
    least = jnp.min(entropy, initial=jnp.inf, where=there)
    surer = jnp.where(there, jnp.exp(-certainty * jnp.where(there, entropy - least, 0.0)), 0.0)
    count = jnp.sum(there)
    return surer * count / jnp.where(count > 0, jnp.sum(surer), 1.0)


PRESETS: dict[str, Preset] = {
    "sdpo": Preset(
        "the divergence from one's own average that is shown another right response",
        "SDPO, arXiv 2601.20802",
        (HintedRows(), Distillation(distill_top=100), Aggregate()),
    ),
    "srpo": Preset(
        "right responses learn from rewards, wrong ones from a teacher who is shown a right one",
        "SRPO, arXiv 2604.02288",
        (
            GroupAdvantage(scale="none"),
            Clipped(clip_low=0.2, clip_high=0.28),
            SampleRouting(distill_top=100),
            Aggregate(),
        ),
    ),
}

# What SDPO's released code and TRL call its settings.
ELSEWHERE: dict[str, str] = {
    "distillation_topk": "distill_top",
    "distillation_add_tail": "distill_tail",
    "is_clip": "distill_ratio_most",
    "success_reward_threshold": "success_threshold (srpo_threshold in srpo)",
}
