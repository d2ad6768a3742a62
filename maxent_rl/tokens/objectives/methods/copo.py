"""COPO: prompts are compared with each other where the answers to a prompt agree, responses where they do not.

A group in which all are right, or all wrong, has no advantages of its own. Here it learns from how good the prompt's mean
reward is among all prompts, and the more so the more its answers agree.

Source: COPO: Consistency-Aware Policy Optimization (arXiv 2508.04138), the blend of the paper as summaries give it (`copo`)
and the released code with the settings of its main script (`copo_released`). Not confirmed: the base of the paper's
logarithm (bits fit its threshold best, as in the code), and whether its global reward has the consistency coefficient,
which the released scripts switch off. Only one file of the code was seen; its branch `only-zero-wrong`, whose shapes look
wrong, is not here.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.errors import MissingInputError
from maxent_rl.settings import Finite, Positive, Weight, static
from maxent_rl.tokens.batch import TokenBatch, token_advantages
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.credit import Credit
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.objectives.stage import Preset, Sampling, Work
from maxent_rl.tokens.objectives.surrogates import Clipped, bounds
from maxent_rl.types import PyTree

_GLOBAL, _LOCAL_WEIGHT = "copo_global", "copo_local_weight"  # where `prepare` leaves what the steps read
_INSIDE_LOGARITHM, _NO_ADVANTAGE = 1e-8, 1e-8


@struct.dataclass
class ConsistencyCredit(Credit):
    """Finds, for each response, the global advantage of its prompt and how much its own, local one counts beside it.

    Local advantages are those that are there, made of rewards or given. It stands in a chain with `BlendedClip`.
    """

    needs: ClassVar[tuple[str, ...]] = ("answers",)
    copo_blend: Literal["soft", "soft-zero", "soft-forced", "forced", "zero", "global", "local"] = static("soft")
    """soft: the paper's, by the entropy of the answers. soft-zero: the same, but wrong responses (of reward 0) have the
    global one alone, as in the released script; soft-forced: those without a local one have. forced, zero: one or the other
    by these rules, without the blend. global, local: nothing else."""
    copo_sharpness: Weight = 20.0
    """gamma: how sharply the blend turns at the threshold, per bit."""
    copo_threshold: Finite = 1.5
    """rho: the entropy of answers at which both count alike, in bits."""
    copo_coefficient: bool = static(False)
    """Multiply the global reward by 1 at full agreement, down to 1 over the group's size where all answers differ."""
    copo_epsilon: Positive = 1e-6
    """Added to the deviation of the global reward."""

    def sampling(self, state: PyTree) -> Sampling:
        """All groups teach."""
        return Sampling(teaches=lambda batch: batch.scored)

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Leaves both beside the batch, [N, T] each."""
        assert batch.answers is not None
        groups = Grouping.of(batch)
        rewards = jnp.where(groups.valid, batch.outcomes, 0.0)
        entropy = consistency_entropy(batch.answers, groups)
        of_prompt = global_advantages(rewards, groups, entropy if self.copo_coefficient else None, self.copo_epsilon)
        soft = jax.nn.sigmoid(self.copo_sharpness * (entropy - self.copo_threshold))
        local = token_advantages(batch)
        has_local = jnp.any(jnp.abs(local) > _NO_ADVANTAGE, axis=-1)
        weight = {
            "soft": soft,
            "soft-zero": soft * (rewards != 0),
            "soft-forced": soft * has_local,
            "forced": has_local,
            "zero": rewards != 0,
            "global": jnp.zeros_like(soft),
            "local": jnp.ones_like(soft),
        }[self.copo_blend]
        shape = batch.mask.shape
        statistics = batch.statistics | {
            _GLOBAL: jnp.broadcast_to(of_prompt[:, None], shape),
            _LOCAL_WEIGHT: jnp.broadcast_to(jnp.asarray(weight, jnp.float32)[:, None], shape),
        }
        return state, dataclasses.replace(batch, statistics=statistics)


def consistency_entropy(answers: Array, groups: Grouping) -> Array:
    """The entropy of the answers of each row's group, in bits: answers [N] to [N], 0 where not valid.

    Answers that could not be read, below 0, are one answer.

    Source: arXiv 2508.04138, released code.
    """
    share = groups.agreeing(jnp.maximum(answers, -1)) / jnp.maximum(groups.size, 1)
    return jnp.maximum(-groups.mean(jnp.log2(share + _INSIDE_LOGARITHM)), 0.0)


def global_advantages(
    rewards: Array, groups: Grouping, entropy: Array | None = None, epsilon: Positive = 1e-6
) -> Array:
    """How good each prompt is: its mean reward against those of all prompts, in their standard deviations.

    Args:
      rewards: [N].
      groups: the responses to each prompt, at least two.
      entropy: [N] bits of the answers, whose consistency multiplies mean rewards; None for no such factor.
      epsilon: added to the deviation.

    Returns:
      [N], the same for all responses to a prompt; 0 if there is one prompt, or if all are equal, and where not valid.

    Source: arXiv 2508.04138, released code.
    """
    mean = groups.mean(rewards)
    if entropy is not None:
        size = jnp.maximum(groups.size, 2)
        mean = mean * (1.0 - (1.0 - 1.0 / size) / jnp.log2(size) * entropy)
    prompts = groups.first
    count = jnp.sum(prompts)
    highest = jnp.max(mean, initial=-jnp.inf, where=prompts)
    # Differences first: what their mean loses is less than they are.
    below = jnp.where(groups.valid, mean - highest, 0.0)
    centred = below - losses.masked_mean(below, prompts)
    size = jnp.max(jnp.abs(rewards), initial=0.0)
    centred = jnp.where(groups.valid, losses.without_rounding(centred, size), 0.0)
    unit = jnp.maximum(jnp.max(jnp.abs(centred), initial=0.0), 1e-30)
    spread = unit * jnp.sqrt(jnp.sum(jnp.where(prompts, (centred / unit) ** 2, 0.0)) / jnp.maximum(count - 1, 1))
    return jnp.where(count > 1, centred / (spread + epsilon), 0.0)


@struct.dataclass
class BlendedClip(Clipped):
    """PPO's clipped surrogate of the local and of the global advantages, blended token by token (`ConsistencyCredit`)."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T]; what was clipped is told of the part that counts more."""
        if _GLOBAL not in work.batch.statistics:
            raise MissingInputError("BlendedClip needs the global advantages of ConsistencyCredit: chain it before.")
        of_prompt, weight = (work.batch.statistics[name] for name in (_GLOBAL, _LOCAL_WEIGHT))
        state, local = super().__call__(state, work)
        low, high = bounds(work, self.clip_low, self.clip_high)
        loss = losses.clipped_surrogate(local.ratio, of_prompt, low, high, self.dual_clip)
        clipped = losses.clipped_away(local.ratio, of_prompt, low, high)
        metrics = {"copo/local_weight": weight, "copo/global_advantage": jnp.abs(of_prompt)}
        work = local.measure(**{name: losses.masked_mean(values, work.mask) for name, values in metrics.items()})
        blended = weight * local.loss + (1.0 - weight) * loss
        return state, work.replace(loss=blended, clipped=jnp.where(weight > 0.5, local.clipped, clipped))


_PAPER = "COPO: Consistency-Aware Policy Optimization, arXiv 2508.04138"
PRESETS: dict[str, Preset] = {
    "copo": Preset(
        "where the answers to a prompt agree, the prompt is compared with the others and not its responses with each other",
        _PAPER,
        (GroupAdvantage(), ConsistencyCredit(), BlendedClip(dual_clip=3.0), Aggregate("seq-mean-token-mean")),
    ),
    "copo_released": Preset(
        "copo with the released script's blend: wrong responses learn from the comparison of prompts alone",
        _PAPER,
        (
            GroupAdvantage(),
            ConsistencyCredit("soft-zero", copo_sharpness=5.0, copo_threshold=1.0),
            BlendedClip(dual_clip=3.0),
            Aggregate("seq-mean-token-mean"),
        ),
    ),
}
