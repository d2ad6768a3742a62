"""Stages of a critic over tokens: advantages from its values, and its own loss.

Source: PPO (arXiv 1707.06347) as Fine-Tuning Language Models from Human Preferences (arXiv 1909.08593) uses it; a lambda of
the critic's own, and one by length for the policy, VAPO (arXiv 2504.05118).
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.settings import Fraction, Positive, Weight, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import AdvantageStage, token_rewards
from maxent_rl.tokens.objectives.regularisers import Regulariser
from maxent_rl.tokens.objectives.stage import Work
from maxent_rl.types import PyTree


@struct.dataclass
class CriticAdvantage(AdvantageStage):
    """Generalized advantages of the critic's values, and what the critic should have said (`losses.response_advantages`).

    The outcome is paid on the last token, rewards of single tokens (such as those of `kl_reward_weight`) where they stand, and
    tokens that the environment wrote are passed over.
    """

    needs: ClassVar[tuple[str, ...]] = ("values",)
    token_discount: Fraction = 1.0
    """Factor by token."""
    trace_decay: Fraction = 0.95
    """Lambda of the advantages."""
    trace_length_scale: Positive | None = None
    """In place of trace_decay, alpha of a lambda by length, 1 - 1 / (alpha * length), which is 0 for responses of up to
    1 / alpha tokens; None for trace_decay."""
    target_trace_decay: Fraction | None = None
    """Lambda of what the critic learns; None for that of the advantages."""
    whiten_advantages: bool = static(True)
    """Whiten them over all tokens of the batch."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages and the critic's targets, both [N, T], 0 in responses that could not be scored."""
        scored = batch.mask & batch.scored[:, None]
        values = jnp.where(scored, jnp.asarray(batch.values), 0.0)
        rewards = token_rewards(batch)

        def estimated(decay: Array | float) -> Array:
            return losses.response_advantages(rewards, values, scored, self.token_discount, decay)

        advantages = estimated(self.decay(batch))
        to_learn = advantages if self.target_trace_decay is None else estimated(self.target_trace_decay)
        if self.whiten_advantages:
            advantages = losses.whiten(advantages, scored)
        return state, dataclasses.replace(batch, advantages=advantages, value_targets=to_learn + values)

    def decay(self, batch: TokenBatch) -> Array:
        """Lambda of the advantages of each response, [N, 1] or []."""
        if self.trace_length_scale is None:
            return jnp.asarray(self.trace_decay)
        return losses.length_trace_decay(jnp.sum(batch.mask, axis=-1, keepdims=True), self.trace_length_scale)


@struct.dataclass
class CriticLoss(Regulariser):
    """Adds the critic's loss (`losses.clipped_value_loss`), averaged as the policy's is.

    It depends on what the critic says alone: a critic with parameters of its own learns from it whatever the policy does.
    """

    needs: ClassVar[tuple[str, ...]] = ("values", "value_targets", "value")
    value_weight: Weight = 0.1
    """Weight beside the policy's loss (TRL's vf_coef); it decides where critic and policy share parameters."""
    value_clip: Positive | None = 0.2
    """How far a value may move from what it was and still be credited, in units of reward; None for no bound."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds to the penalty [N, T], and measures how much of the targets the values explain."""
        error, work = self.errors(work, work.mask & work.batch.scored[:, None])
        return state, work.replace(penalty=work.penalty + self.value_weight * error)

    def errors(self, work: Work, counts: Array) -> tuple[Array, Work]:
        """The loss of each value [N, T], 0 where it does not count, and the work with what is measured of it."""
        value, batch = work.outputs.value, work.batch
        assert value is not None and batch.values is not None and batch.value_targets is not None
        error = losses.clipped_value_loss(value, batch.values, batch.value_targets, self.value_clip)
        error = jnp.where(counts, error, 0.0)
        work = work.measure(
            **{
                "critic/loss": losses.masked_mean(error, counts),
                "critic/value": losses.masked_mean(value, counts),
                "critic/explained_variance": explained_variance(value, batch.value_targets, counts),
            }
        )
        return error, work


def explained_variance(value: Array, target: Array, mask: Array) -> Array:
    """[] the share of the variance of valid targets [...] that values [...] explain: 1 for all of it, 0 if there is none."""
    spread, left = (losses.masked_deviation(each, mask) for each in (target, target - value))
    total = jnp.sum(spread**2)
    return jnp.where(total > 0, 1.0 - jnp.sum(left**2) / jnp.where(total > 0, total, 1.0), 0.0)
