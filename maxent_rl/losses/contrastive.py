"""Losses on preferences between segments of behaviour, without a reward model and without a value function.

Source: Contrastive Preference Learning (arXiv 2310.13639). People are taken to prefer the segment of less regret; under
maximum entropy the advantage of an action is alpha times its log-probability under the best policy, so that the policy
itself is what is fitted.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.arguments import expect_between, expect_positive, expect_same_shape, expect_scalar_or_shape_of
from maxent_rl.losses.precision import in_single_precision
from maxent_rl.losses.preference import logistic_loss


@in_single_precision
def segment_score(
    log_prob: ArrayLike,
    alpha: ArrayLike = 0.1,
    reference: ArrayLike = 0.0,
    discount: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
) -> Array:
    """Sum of a segment's advantages, as the policy implies them: `alpha * sum_t discount**t * (log_prob_t - reference_t)`.

    Args:
      log_prob: [..., K] log pi(a_t|s_t) of each step, in nats, summed over the action's dimensions.
      alpha: [] temperature, in return per nat; positive.
      reference: [..., K] the same under a frozen copy of the policy (CPL-KL); held constant. 0 for none.
      discount: [] per step, counted from the first column; 1 in the authors' code.
      mask: [..., K] which steps there are; None for all. What the others hold never matters.

    Returns:
      [...] in units of return. More steps make a lower score: segments of unequal length are not compared fairly.

    Raises:
      ValueError: alpha or discount is a Python number outside its range; shapes do not fit; there is no axis of steps.

    Source: Contrastive Preference Learning (arXiv 2310.13639); the reference as in the authors' CPL-KL.
    """
    expect_positive(alpha=alpha)
    expect_between(0.0, 1.0, discount=discount)
    expect_scalar_or_shape_of(log_prob, reference=reference)
    log_prob = jnp.asarray(log_prob)
    if log_prob.ndim == 0:
        raise ValueError("Expected the steps of a segment along the last axis, got a scalar.")
    gain = log_prob - jax.lax.stop_gradient(jnp.asarray(reference))
    if mask is not None:
        gain = jnp.where(jnp.asarray(mask, bool), gain, 0.0)
    weight = jnp.asarray(discount) ** jnp.arange(log_prob.shape[-1])
    return jnp.asarray(alpha) * jnp.sum(weight * gain, axis=-1)


@in_single_precision
def squared_error_log_prob(action: ArrayLike, mean: ArrayLike) -> Array:
    """The log-density that CPL takes for a deterministic actor: `-||mean - action||**2`, without factor or constant.

    Args:
      action: [..., A] of the data, within the bounds of `mean`.
      mean: [..., A] the actor's action.

    Returns:
      [...] nats of a Gaussian of variance 1/2, up to a constant.

    Raises:
      ValueError: the shapes differ.

    Source: the authors' code of Contrastive Preference Learning (https://github.com/jhejna/cpl).
    """
    expect_same_shape(action=action, mean=mean)
    return -jnp.sum((jnp.asarray(mean) - jnp.asarray(action)) ** 2, axis=-1)


@in_single_precision
def contrastive_loss(score_1: ArrayLike, score_2: ArrayLike, label: ArrayLike, bias: ArrayLike = 1.0) -> Array:
    """Logistic loss on which of two segments was preferred; the less preferred score counts `bias` times.

    With a bias of 1 both likelihoods may fall together; with less, raising both lowers the loss.

    Args:
      score_1: [...] as from `segment_score`.
      score_2: [...] the same of the second segment.
      label: [...] or []: 1 if the second is preferred, 0 if the first is, 1/2 for a tie; held constant.
      bias: [] lambda of the paper, in (0, 1].

    Returns:
      [...] nats.

    Raises:
      ValueError: bias is a Python number outside (0, 1]; the shapes differ.

    Source: Contrastive Preference Learning (arXiv 2310.13639), with the conservative bias.
    """
    expect_between(0.0, 1.0, "(]", bias=bias)
    expect_same_shape(score_1=score_1, score_2=score_2)
    expect_scalar_or_shape_of(score_1, label=label)
    label = jax.lax.stop_gradient(jnp.asarray(label))
    return label * _preferred(score_2, score_1, bias) + (1.0 - label) * _preferred(score_1, score_2, bias)


@in_single_precision
def contrastive_ranking_loss(scores: ArrayLike, quality: ArrayLike, bias: ArrayLike = 1.0) -> Array:
    """`contrastive_loss` of every pair of a batch of segments, the one of more quality preferred.

    Args:
      scores: [B] as from `segment_score`.
      quality: [B] by which segments are ranked; held constant. Of equals, the later one counts as the better.
      bias: [] as for `contrastive_loss`.

    Returns:
      [B (B - 1) / 2] nats per pair, the worst segment's pairs first; nothing for fewer than two segments.

    Raises:
      ValueError: bias is a Python number outside (0, 1]; the shapes differ, or have more or fewer axes than one.

    Source: the authors' code of Contrastive Preference Learning (https://github.com/jhejna/cpl).
    """
    expect_between(0.0, 1.0, "(]", bias=bias)
    expect_same_shape(scores=scores, quality=quality)
    if jnp.ndim(scores) != 1:
        raise ValueError(f"Expected scores of one axis, got shape {jnp.shape(scores)}.")
    ranked = jnp.asarray(scores)[jnp.argsort(jax.lax.stop_gradient(jnp.asarray(quality)), stable=True)]
    worse, better = jnp.triu_indices(ranked.shape[0], k=1)
    return _preferred(ranked[better], ranked[worse], bias)


def _preferred(better: ArrayLike, worse: ArrayLike, bias: ArrayLike) -> Array:
    return logistic_loss(jnp.asarray(better) - jnp.asarray(bias) * jnp.asarray(worse))
