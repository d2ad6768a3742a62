"""Target distributions over sets of candidates, for `anchored_loss`: from rewards, ranks, or a teacher.

Source: ADPO: Anchored Direct Preference Optimization (arXiv 2510.18913). Candidates lie along the last axis. All targets are
without gradient, have rows that sum to 1, and are 0 where the mask says that there is no candidate.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision
from maxent_rl.losses.rounding import apart, rounding_of

_NO_SPREAD, _NO_SPREAD_KDE, _LEAST_SHARE = 1e-8, 1e-6, 1e-4


@in_single_precision
def softmax_target(
    scores: ArrayLike, temperature: ArrayLike = 0.5, standardize: bool = False, mask: ArrayLike | None = None
) -> Array:
    """`softmax(score / temperature)` over the set: rewards, a teacher's log-probabilities, or action values (Boltzmann).

    Args:
      scores: [..., P].
      temperature: [] or [..., 1], in units of the scores; positive.
      standardize: divide the scores by their standard deviation within the set first (Bessel's correction; by 1 where
        that is below 1e-8).
      mask: [..., P] which candidates there are; None for all.

    Returns:
      [..., P]; uniform where all scores are equal.

    Source: ADPO, the raw listwise target; beta_r is `temperature`.
    """
    scores, valid = _scores(scores, mask)
    if standardize:
        scores = scores / set_deviation(scores, valid)
    return _softmax(scores / jnp.asarray(temperature), valid)


@in_single_precision
def kde_target(
    scores: ArrayLike, temperature: ArrayLike = 0.5, bandwidth: ArrayLike = 1.0, mask: ArrayLike | None = None
) -> Array:
    """As `softmax_target` of each score's place in a smoothed distribution of the set: no outlier makes it extreme.

    `F_i = mean_k Phi((R_i - R_k) / h)` with `h = bandwidth * 1.06 * s * P**(-1/5)`, then the softmax of `log(F / (1 - F))`.

    Args:
      scores: [..., P].
      temperature: [] or [..., 1]; the places' log-odds have no unit.
      bandwidth: [] times Silverman's.
      mask: [..., P] which candidates there are; None for all.

    Returns:
      [..., P]; keeps the order of the scores, and is the same for `a * scores + b` with positive a.

    Source: ADPO, the KDE target for heavy-tailed noise.
    """
    scores, valid = _scores(scores, mask)
    count = jnp.sum(valid, axis=-1, keepdims=True)
    width = jnp.asarray(bandwidth) * 1.06 * set_deviation(scores, valid, _NO_SPREAD_KDE) * jnp.maximum(count, 1) ** -0.2
    below = jax.scipy.stats.norm.cdf((scores[..., :, None] - scores[..., None, :]) / (width[..., None] + 1e-8))
    share = jnp.sum(jnp.where(valid[..., None, :], below, 0.0), axis=-1) / jnp.maximum(count, 1)
    return _of_shares(share, temperature, valid)


@in_single_precision
def rank_target(scores: ArrayLike, temperature: ArrayLike = 0.5, mask: ArrayLike | None = None) -> Array:
    """As `kde_target` with ranks in place of the smoothed distribution: `F = (rank + 1/2) / P`, rank 0 the worst.

    Args:
      scores: [..., P]; equal ones, but for rounding, share the mean of their ranks.
      temperature: [] or [..., 1].
      mask: [..., P] which candidates there are; None for all.

    Returns:
      [..., P].

    Source: ADPO, the rank variant; that ties share their mean rank is not confirmed.
    """
    scores, valid = _scores(scores, mask)
    others = valid[..., None, :]
    tied = ~apart(scores[..., None, :], scores[..., :, None])  # each with itself, too
    worse = jnp.sum((scores[..., None, :] < scores[..., :, None]) & ~tied & others, axis=-1)
    equal = jnp.sum(tied & others, axis=-1)
    return _of_shares(
        (worse + 0.5 * equal) / jnp.maximum(jnp.sum(valid, axis=-1, keepdims=True), 1), temperature, valid
    )


@in_single_precision
def teacher_over_anchor_target(
    teacher_log_prob: ArrayLike,
    anchor_log_prob: ArrayLike = 0.0,
    temperature: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
) -> Array:
    """The target under which the teacher is the fixed point whatever the anchor: `softmax((teacher - anchor) / temperature)`.

    A target of the teacher alone ends at `anchor * teacher**(temperature / T)`. It must be computed anew whenever the anchor
    moves.

    Args:
      teacher_log_prob: [..., P] log-probability of each candidate under the teacher, in nats.
      anchor_log_prob: [..., P] the same under the anchor.
      temperature: [] or [..., 1] that of the anchored logits.
      mask: [..., P] which candidates there are; None for all.

    Returns:
      [..., P].

    Source: derived from ADPO's fixed point.
    """
    return softmax_target(jnp.asarray(teacher_log_prob) - jnp.asarray(anchor_log_prob), temperature, mask=mask)


def _scores(scores: ArrayLike, mask: ArrayLike | None) -> tuple[Array, Array]:
    scores = jax.lax.stop_gradient(jnp.asarray(scores))
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"Expected at least one candidate along the last axis, got shape {scores.shape}.")
    if not jnp.issubdtype(scores.dtype, jnp.floating):
        scores = scores.astype(jnp.float32)
    valid = jnp.ones(scores.shape, bool) if mask is None else jnp.broadcast_to(jnp.asarray(mask, bool), scores.shape)
    return jnp.where(valid, scores, 0.0), valid


def set_deviation(values: Array, valid: Array, least: float = _NO_SPREAD) -> Array:
    """Standard deviation within each set, with Bessel's correction: [..., P] to [..., 1]; 1 where it is below `least`.

    It is 1 also where the values differ by rounding alone, which must not be made as large as anything else.

    Args:
      values: [..., P], 0 where not valid.
      valid: [..., P] bool, which count.
      least: the smallest that counts as one.
    """
    count = jnp.sum(valid, axis=-1, keepdims=True)
    below = jnp.where(valid, values - jnp.max(values, axis=-1, keepdims=True, initial=-jnp.inf, where=valid), 0.0)
    mean = jnp.sum(below, axis=-1, keepdims=True) / jnp.maximum(count, 1)  # of differences: exact where all are equal
    squares = jnp.where(valid, (below - mean) ** 2, 0.0)
    found = jnp.sqrt(jnp.sum(squares, axis=-1, keepdims=True) / jnp.maximum(count - 1, 1))
    size = jnp.max(jnp.abs(values), axis=-1, keepdims=True, initial=0.0, where=valid)
    return jnp.where(found < jnp.maximum(least, rounding_of(size)), 1.0, found)


def _of_shares(share: Array, temperature: ArrayLike, valid: Array) -> Array:
    share = jnp.clip(share, _LEAST_SHARE, 1.0 - _LEAST_SHARE)
    return _softmax((jnp.log(share) - jnp.log1p(-share)) / jnp.asarray(temperature), valid)


def _softmax(logits: Array, valid: Array) -> Array:
    largest = jnp.max(logits, axis=-1, keepdims=True, where=valid, initial=-jnp.inf)
    weight = jnp.where(valid, jnp.exp(jnp.where(valid, logits - largest, 0.0)), 0.0)
    total = jnp.sum(weight, axis=-1, keepdims=True)
    return jax.lax.stop_gradient(weight / jnp.where(total > 0, total, 1.0))
