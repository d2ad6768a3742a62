"""What losses on preferences are given: responses of which one is the better, and sums over their tokens."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.errors import MissingInputError, ShapeError
from maxent_rl.tokens.batch import TokenOutputs, check_mask, without_masked
from maxent_rl.types import Metrics, PyTree

Average: TypeAlias = Literal["response", "batch", "none"]
"""How a log-likelihood is averaged: over the tokens of each response, over all of the batch, or not at all (the sum)."""


@struct.dataclass
class PreferenceBatch:
    """Responses of which it is known which are the better; all of it is constant to every loss.

    Attributes:
      mask: [2B, T] True (or 1) on the tokens of the response, its end token included. Rows 2i and 2i + 1 are the chosen and
        the rejected response to one prompt. A pair of which one has no tokens does not count.
      logp_ref: [2B, T] log-probability of each token under the reference policy, in nats; needed by all but simpo, orpo, cpo.
        A response that the reference did not score, with a token whose log-probability is not finite, does not count, nor
        does its pair: left out, the token would move the margin.
      target: [B] probability that the chosen response is the better; read by "soft" alone.
      desirable: [2B] whether each response is a good one, where rows are no pairs; read by "kto" alone, for which the number
        of rows may then be odd. None where the chosen ones are.
      mismatched_mask: [2B, T] for "kto": the mask of the responses to other prompts (`mismatched`).
      mismatched_logp_ref: [2B, T] their log-probabilities under the reference.
      tokens: [2B, T] int32, which no loss reads.
      context: what else belongs to each row, such as its prompt: a pytree of [2B, ...].
    """

    mask: Array
    logp_ref: Array | None = None
    target: Array | None = None
    desirable: Array | None = None
    mismatched_mask: Array | None = None
    mismatched_logp_ref: Array | None = None
    tokens: Array | None = None
    context: PyTree | None = None

    def pairs(self, index: Any) -> PreferenceBatch:
        """The pairs at `index` [K], whole numbers, as a minibatch."""
        index = jnp.asarray(index)
        rows = (2 * index[:, None] + jnp.arange(2)).ravel()
        target = None if self.target is None else jnp.asarray(self.target)[index]
        cut: PreferenceBatch = jax.tree.map(
            lambda leaf: jnp.asarray(leaf)[rows], dataclasses.replace(self, target=None)
        )
        return dataclasses.replace(cut, target=target)


def mismatched(responses: PyTree, paired: bool = True) -> PyTree:
    """Each response in the place of another prompt's, for the baseline of "kto": row i has the response of the one before.

    Args:
      responses: a pytree of [N, ...], such as tokens and mask; the prompts stay where they are.
      paired: rows 2i and 2i + 1 have one prompt: those of the pair before are taken. False for rows that each have their own.

    Returns:
      The same, rolled along the rows.
    """
    return jax.tree.map(lambda leaf: jnp.roll(jnp.asarray(leaf), 2 if paired else 1, axis=0), responses)


@struct.dataclass
class PreferenceAux:
    """What a loss gives beside its values.

    Attributes:
      metrics: scalars, means over what counts.
      counts: [B] bool, the pairs that do ([2B] responses for "kto").
      rewards: [B, 2] implicit rewards, the chosen response's first ([2B] for "kto"), without gradient.
    """

    metrics: Metrics
    counts: Array
    rewards: Array


@struct.dataclass
class Pairs:
    """What a loss reads of pairs: arrays [B, 2], the chosen response first, each summed over the tokens.

    Attributes:
      log_prob: nats.
      log_ratio: the same less that under the reference; None without one.
      lengths: tokens, at least 1.
      target: [B] or None.
      counts: [B] which pairs do.
    """

    log_prob: Array
    log_ratio: Array | None
    lengths: Array
    target: Array | None
    counts: Array

    @property
    def margin(self) -> Array:
        """[B] how much more the policy prefers the chosen response than the reference does."""
        return margin_of(self.ratio)

    def margin_by(self, per_token: bool) -> Array:
        """[B] the margin of sums over the tokens, or of means per token."""
        return margin_of(self.ratio / self.lengths) if per_token else self.margin

    @property
    def ratio(self) -> Array:
        """`log_ratio`, where it must be there."""
        assert self.log_ratio is not None
        return self.log_ratio

    @property
    def mean_log_prob(self) -> Array:
        """[B, 2] nats per token."""
        return self.log_prob / self.lengths

    def likelihood(self, average: Average) -> Array:
        """[B] the log-likelihood of the chosen responses, whose mean over the pairs that count is averaged so."""
        if average == "none":
            return self.log_prob[:, 0]
        if average == "response":
            return self.mean_log_prob[:, 0]
        tokens = jnp.sum(jnp.where(self.counts, self.lengths[:, 0], 0))
        return self.log_prob[:, 0] * jnp.sum(self.counts) / jnp.maximum(tokens, 1)


@struct.dataclass
class Responses:
    """Of each row [N]: log-probability, that less the reference's or None, number of tokens, and whether it counts."""

    log_prob: Array
    log_ratio: Array | None
    lengths: Array
    counts: Array


def responses(
    outputs: ArrayLike | TokenOutputs, batch: PreferenceBatch, title: str, needs_reference: bool = True
) -> Responses:
    """Sums over tokens, whatever stands at masked positions; of a row that does not count the ratio is 0.

    Raises:
      ShapeError: arrays that do not fit together, or a mask that is none.
      MissingInputError: the loss `title` needs the reference, which is not there.
    """
    logp = jnp.asarray(outputs.logp if isinstance(outputs, TokenOutputs) else outputs)
    if logp.ndim != 2:
        raise ShapeError(f"logp must have shape [2B, T], chosen and rejected responses in turn; got {logp.shape}.")
    for field in ("mask", "logp_ref"):
        value = getattr(batch, field)
        if value is not None and jnp.shape(value) != logp.shape:
            raise ShapeError(f"{field} must have shape {logp.shape}, as logp; got {jnp.shape(value)}.")
    if batch.desirable is not None and jnp.shape(batch.desirable) != logp.shape[:1]:
        raise ShapeError(f"desirable must have shape {logp.shape[:1]}; got {jnp.shape(batch.desirable)}.")
    if needs_reference and batch.logp_ref is None:
        raise MissingInputError(
            f"{title} needs logp_ref: pass PreferenceBatch(logp_ref=[2B, T]), log-probabilities under the reference policy."
        )
    check_mask(jnp.asarray(batch.mask))
    mask = jnp.asarray(batch.mask, bool)
    logp = without_masked(losses.at_least_single(logp), mask)
    counts, ratio = jnp.any(mask, axis=-1), None
    if batch.logp_ref is not None:
        # Differences before sums: of two sums over many tokens little would be left in single precision.
        reference = jax.lax.stop_gradient(without_masked(losses.at_least_single(batch.logp_ref), mask))
        scored = jnp.all(jnp.isfinite(reference), axis=-1)
        ratio = jnp.sum(jnp.where(scored[:, None], logp - reference, 0.0), axis=-1)
        counts = counts & scored if needs_reference else counts
    return Responses(jnp.sum(logp, axis=-1), ratio, jnp.sum(mask, axis=-1), counts)


def margin_of(values: Array) -> Array:
    """[B] how far the first of two [B, 2] lies above the second."""
    return losses.preference_margin(values[:, 0], values[:, 1])


def pair_metrics(rewards: Array, counts: Array) -> Metrics:
    """How often, and by how much, the implicit reward [B, 2] of the chosen response is the larger."""
    return {
        "preference/accuracy": losses.masked_mean(rewards[:, 0] > rewards[:, 1], counts),
        "preference/margin": losses.masked_mean(rewards[:, 0] - rewards[:, 1], counts),
        "preference/reward_chosen": losses.masked_mean(rewards[:, 0], counts),
        "preference/reward_rejected": losses.masked_mean(rewards[:, 1], counts),
    }


def likelihood_metrics(log_prob: Array, log_ratio: Array | None, counts: Array) -> Metrics:
    """Log-probabilities of responses and, with a reference, how far they have moved: DPO may lower the chosen ones too."""
    metrics = {}
    for number, kind in enumerate(("chosen", "rejected")):
        metrics[f"preference/logp_{kind}"] = losses.masked_mean(log_prob[:, number], counts)
        if log_ratio is not None:
            metrics[f"preference/displacement_{kind}"] = losses.masked_mean(log_ratio[:, number], counts)
    return metrics
