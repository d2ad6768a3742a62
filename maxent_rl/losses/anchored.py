"""Anchored losses: a target distribution over a set of candidates, and a policy measured relative to an anchor.

Source: ADPO: Anchored Direct Preference Optimization (arXiv 2510.18913). Supervised fine-tuning, distillation, maximum-entropy
reinforcement learning and DPO are choices of target, anchor and temperature. Candidates lie along the last axis; where a mask
says that one does not count, what it holds never matters. The targets are in `candidate_targets`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.candidate_targets import set_deviation
from maxent_rl.losses.entropy import probability_entropy
from maxent_rl.losses.precision import in_single_precision
from maxent_rl.losses.preference import logistic_loss
from maxent_rl.losses.rounding import apart


@in_single_precision
def anchored_logits(
    log_prob: ArrayLike,
    anchor_log_prob: ArrayLike = 0.0,
    temperature: ArrayLike = 1.0,
    *,
    standardize: bool = False,
    largest_ratio: float | None = None,
    largest: float | None = None,
) -> Array:
    """How much likelier each candidate is than under the anchor: `(log_prob - anchor_log_prob) / temperature`.

    Args:
      log_prob: [..., P] log-probability (or log-density) of each candidate under the policy, in nats.
      anchor_log_prob: [..., P] the same under the anchor; held constant. 0 is the uniform anchor.
      temperature: [] or [..., 1] anchoring temperature, positive; the smaller, the nearer the policy stays to the anchor.
      standardize: divide the difference of log-probabilities by its standard deviation within the set first (Bessel's
        correction; by 1 where that is below 1e-8), held constant.
      largest_ratio: clip the difference of log-probabilities to +-this; None for no clip.
      largest: clip the result to +-this; None for no clip.

    Returns:
      [..., P] logits; what is added to a row of either input changes none of the losses here.

    Source: ADPO, definition of the anchored logits; the clips are those of the authors' later code (5 and 10). That the
    gradient does not flow through the standard deviation is not confirmed.
    """
    ratio = jnp.asarray(log_prob) - jax.lax.stop_gradient(jnp.asarray(anchor_log_prob))
    if standardize:
        held = jax.lax.stop_gradient(ratio)
        ratio = ratio / set_deviation(held, jnp.ones(held.shape, bool))
    if largest_ratio is not None:
        ratio = jnp.clip(ratio, -largest_ratio, largest_ratio)
    logits = ratio / jax.lax.stop_gradient(jnp.asarray(temperature))
    return logits if largest is None else jnp.clip(logits, -largest, largest)


@in_single_precision
def anchored_loss(logits: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None) -> Array:
    """Listwise: cross-entropy from a target over a set of candidates to the softmax of the anchored logits.

    The gradient in the log-probability of candidate i is `(softmax(logits)_i - target_i) / temperature`. An unrestricted
    policy ends at `anchor * target**temperature`, normalised over the set.

    Args:
      logits: [..., P] as from `anchored_logits`.
      target: [..., P] probabilities whose rows sum to 1; held constant.
      mask: [..., P] which candidates there are; None for all.

    Returns:
      [...] nats per set: at least the target's entropy, log P where the policy is the anchor. 0 without gradient for a set
      of one candidate or of none.

    Raises:
      ValueError: the set has no axis or no candidates.

    Source: ADPO, the listwise anchored loss.
    """
    logits, valid = _candidates(logits, mask)
    target = jnp.where(valid, jax.lax.stop_gradient(jnp.asarray(target)), 0.0)
    wanted = valid & (target > 0)  # a candidate that neither has a chance with costs nothing: 0 log 0 = 0
    return -jnp.sum(target * jnp.where(wanted, _log_softmax(logits, valid), 0.0), axis=-1)


@in_single_precision
def anchored_pair_loss(
    logits: ArrayLike,
    scores: ArrayLike,
    score_temperature: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """Pairwise: every pair of candidates of a set, each a logistic regression on which of the two is better.

    With a frozen reference as anchor and the temperature 1 / beta the hard form is DPO.

    Args:
      logits: [..., P] as from `anchored_logits`.
      scores: [..., P] what makes a candidate the better one; held constant.
      score_temperature: [] soft labels `sigmoid((score_i - score_j) / score_temperature)` (Bradley-Terry), ties among them;
        None for hard ones, with which ties do not count.
      mask: [..., P] which candidates there are; None for all.

    Returns:
      (loss [..., P (P - 1) / 2] in nats for the pairs i < j, weight of the same shape: 1 where the pair counts, else 0).
      The mean is over all pairs of a batch that count: `masked_mean(loss, weight)`, 0 where there are none.

    Raises:
      ValueError: the set has no axis or no candidates.

    Source: ADPO, the pairwise anchored losses. How the batch is reduced is not confirmed; this is the authors' code for hard
    labels.
    """
    logits, valid = _candidates(logits, mask)
    scores = jnp.where(valid, jax.lax.stop_gradient(jnp.asarray(scores)), 0.0)
    first, second = jnp.triu_indices(logits.shape[-1], k=1)
    margin = jnp.where(valid, logits, 0.0)[..., first] - jnp.where(valid, logits, 0.0)[..., second]
    gap = scores[..., first] - scores[..., second]
    counts = valid[..., first] & valid[..., second]
    if score_temperature is None:
        counts &= apart(scores[..., first], scores[..., second])  # scores that differ by rounding are a tie
        target = (gap > 0).astype(margin.dtype)
    else:
        target = jax.nn.sigmoid(gap / jnp.asarray(score_temperature))
    return jnp.where(counts, logistic_loss(margin, target), 0.0), counts.astype(margin.dtype)


@in_single_precision
def plackett_luce_loss(
    logits: ArrayLike,
    scores: ArrayLike,
    top_k: int | None = None,
    smoothing: ArrayLike = 0.0,
    poly: ArrayLike = 0.0,
    mask: ArrayLike | None = None,
) -> Array:
    """Listwise over the whole ranking: at each place, how unlikely the best of those left was (ListMLE).

    Args:
      logits: [..., P] as from `anchored_logits`.
      scores: [..., P] which decide the ranking, best first; held constant. Equal scores keep the order that they have.
      top_k: only the first so many places count; None for all but the last, which is certain.
      smoothing: [] share of each place's term that goes to all that are left alike.
      poly: [] weight of `1 - exp(-min(term, 20))`, added to each smoothed term.
      mask: [..., P] which candidates there are; None for all.

    Returns:
      [...] nats: mean over the places that count; 0 for a set of fewer than two candidates.

    Raises:
      ValueError: the set has no axis or no candidates; top_k is below 1.

    Source: ADPO, the full-ranking variant of the authors' code.
    """
    if top_k is not None and top_k < 1:
        raise ValueError(f"Expected top_k of at least 1, or None for all places, got {top_k}.")
    logits, valid = _candidates(logits, mask)
    scores = jnp.where(valid, jax.lax.stop_gradient(jnp.asarray(scores)), -jnp.inf)
    order = jnp.argsort(-scores, axis=-1, stable=True)
    ranked = jnp.take_along_axis(jnp.where(valid, logits, 0.0), order, axis=-1)
    there = jnp.take_along_axis(jnp.broadcast_to(valid, logits.shape), order, axis=-1)
    size = ranked.shape[-1]
    left = jnp.triu(jnp.ones((size, size), bool)) & there[..., None, :]  # [..., place, candidates still to be ranked]
    among = jnp.where(left, ranked[..., None, :], 0.0)
    normalizer = jax.nn.logsumexp(among, axis=-1, where=left | ~jnp.any(left, axis=-1, keepdims=True))
    count = jnp.sum(left, axis=-1)
    mean = jnp.sum(among, axis=-1) / jnp.maximum(count, 1)
    terms = (1.0 - jnp.asarray(smoothing)) * (normalizer - ranked) + jnp.asarray(smoothing) * (normalizer - mean)
    terms = terms + jnp.asarray(poly) * -jnp.expm1(-jnp.minimum(terms, 20.0))
    counts = count > 1
    if top_k is not None:
        counts &= jnp.arange(size) < top_k
    return jnp.sum(jnp.where(counts, terms, 0.0), axis=-1) / jnp.maximum(jnp.sum(counts, axis=-1), 1)


@in_single_precision
def smooth_temperature(
    entropy: ArrayLike,
    reward: ArrayLike,
    base: ArrayLike = 0.8,
    entropy_weight: ArrayLike = 0.5,
    reward_weight: ArrayLike = 1.0,
    bounds: tuple[float, float] = (0.1, 5.0),
) -> Array:
    """Anchoring temperature that grows with entropy, and where a certain policy does badly.

    `base * (1 + entropy_weight * H + reward_weight * (1 - H) * (1 - R))`, within bounds. (The paper says that a larger one
    holds the policy tighter; by its own curvature it is the smaller one that does.)

    Args:
      entropy: [...] H, mean entropy over its maximum, clipped to [0, 1].
      reward: [...] R, mean reward scaled to [0, 1].
      base: [].
      entropy_weight: [] alpha of the paper.
      reward_weight: [] beta of the paper.
      bounds: least and largest temperature.

    Returns:
      [...] temperatures, without gradient.

    Source: ADPO, the "smooth hybrid" rule.
    """
    entropy = jax.lax.stop_gradient(jnp.clip(jnp.asarray(entropy), 0.0, 1.0))
    reward = jax.lax.stop_gradient(jnp.asarray(reward))
    factor = 1.0 + jnp.asarray(entropy_weight) * entropy + jnp.asarray(reward_weight) * (1.0 - entropy) * (1.0 - reward)
    return jnp.clip(jnp.asarray(base) * factor, *bounds)


@in_single_precision
def falling_temperature(
    target: ArrayLike, base: ArrayLike = 0.8, entropy_weight: ArrayLike = 1.0, least: ArrayLike = 0.1
) -> Array:
    """Anchoring temperature that falls as the target spreads: `max(least, base * (1 - entropy_weight * H / log P))`.

    Args:
      target: [..., P] probabilities.
      base: [].
      entropy_weight: [] alpha of the paper.
      least: [] lower bound.

    Returns:
      [..., 1] temperatures, without gradient.

    Source: ADPO, the earlier rule. With entropy it moves the other way than `smooth_temperature`.
    """
    target = jax.lax.stop_gradient(jnp.asarray(target))
    entropy = probability_entropy(target)[..., None]
    share = entropy / jnp.log(jnp.float32(max(target.shape[-1], 2)))  # a single candidate has no entropy
    return jnp.maximum(jnp.asarray(least), jnp.asarray(base) * (1.0 - jnp.asarray(entropy_weight) * share))


def _candidates(logits: ArrayLike, mask: ArrayLike | None) -> tuple[Array, Array]:
    logits = jnp.asarray(logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"Expected at least one candidate along the last axis, got shape {logits.shape}.")
    valid = jnp.ones(logits.shape, bool) if mask is None else jnp.broadcast_to(jnp.asarray(mask, bool), logits.shape)
    return logits, valid


def _log_softmax(logits: Array, valid: Array) -> Array:
    """Over the candidates that there are; where there are none the result is finite, and has no gradient."""
    inside = jnp.where(valid, logits, 0.0)
    none = ~jnp.any(valid, axis=-1, keepdims=True)
    return inside - jax.nn.logsumexp(inside, axis=-1, keepdims=True, where=valid | none)
