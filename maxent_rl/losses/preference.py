"""Losses on preferences between two responses or actions: DPO and its family.

Source: Direct Preference Optimization (arXiv 2305.18290) and what followed it. Log-probabilities are sums over the tokens of
a response; where a mean per token is wanted, an argument says so and the caller divides by the length. Losses on segments of
control are in `contrastive`.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.aggregation import masked_mean
from maxent_rl.losses.arguments import (
    expect_between,
    expect_positive,
    expect_same_shape,
    expect_scalar_or_shape_of,
)
from maxent_rl.losses.precision import in_single_precision

_LARGEST_MEAN_LOG_PROB = -1e-6  # nearer to certainty than that, the odds of ORPO would be infinite


@in_single_precision
def logistic_loss(margin: ArrayLike, target: ArrayLike = 1.0) -> Array:
    """Cross-entropy of `sigmoid(margin)` with the probability that the first of a pair is the better.

    Args:
      margin: [...] how much the first is preferred, in nats.
      target: [...] in [0, 1]; held constant. 1 is DPO's label, 1 - eps that of conservative DPO.

    Returns:
      [...] nats, finite for every finite margin.

    Source: Direct Preference Optimization (arXiv 2305.18290), equation 7; soft labels as in conservative DPO.
    """
    margin, target = jnp.asarray(margin), jax.lax.stop_gradient(jnp.asarray(target))
    return target * jax.nn.softplus(-margin) + (1.0 - target) * jax.nn.softplus(margin)


@in_single_precision
def preference_margin(
    log_prob_chosen: ArrayLike,
    log_prob_rejected: ArrayLike,
    reference_chosen: ArrayLike = 0.0,
    reference_rejected: ArrayLike = 0.0,
) -> Array:
    """How much more the policy prefers the chosen response than the reference does.

    `(log_prob_chosen - log_prob_rejected) - (reference_chosen - reference_rejected)`.

    Args:
      log_prob_chosen: [...] log-probability of the chosen response, in nats; masked tokens left out by the caller.
      log_prob_rejected: [...] the same of the rejected one.
      reference_chosen: [...] log-probability of the chosen response under the reference; held constant. 0 for no reference.
      reference_rejected: [...] the same of the rejected one.

    Returns:
      [...] nats; per token if the log-probabilities are means over tokens.

    Raises:
      ValueError: the shapes differ; references may be scalars.

    Source: Direct Preference Optimization (arXiv 2305.18290), equation 7.
    """
    expect_same_shape(log_prob_chosen=log_prob_chosen, log_prob_rejected=log_prob_rejected)
    expect_scalar_or_shape_of(log_prob_chosen, reference_chosen=reference_chosen, reference_rejected=reference_rejected)
    reference = jax.lax.stop_gradient(jnp.asarray(reference_chosen) - jnp.asarray(reference_rejected))
    return (jnp.asarray(log_prob_chosen) - jnp.asarray(log_prob_rejected)) - reference


@in_single_precision
def implicit_reward(log_prob: ArrayLike, reference: ArrayLike, beta: ArrayLike = 0.1) -> Array:
    """The reward that a policy stands for, for reports: `beta * (log_prob - reference)`.

    Args:
      log_prob: [...] log-probability of a response, in nats.
      reference: [...] the same under the reference.
      beta: [] weight of the divergence from the reference, in reward per nat; positive.

    Returns:
      [...] in units of beta, up to a constant per prompt; without gradient. Where the chosen response has the larger one,
      the pair counts as right.

    Raises:
      ValueError: beta is a Python number that is not positive; the shapes differ.

    Source: Direct Preference Optimization (arXiv 2305.18290), equation 5.
    """
    expect_positive(beta=beta)
    expect_scalar_or_shape_of(log_prob, reference=reference)
    return jax.lax.stop_gradient(jnp.asarray(beta) * (jnp.asarray(log_prob) - jnp.asarray(reference)))


@in_single_precision
def dpo_loss(margin: ArrayLike, beta: ArrayLike = 0.1, target: ArrayLike = 1.0) -> Array:
    """DPO: logistic regression on which of two responses is the better.

    Args:
      margin: [...] as from `preference_margin`, in nats.
      beta: [] weight of the divergence from the reference, positive; the larger, the nearer the policy stays.
      target: [] or [...] probability that the chosen response is the better; held constant. 1 - eps is conservative DPO,
        whose minimum lies at `beta * margin = log((1 - eps) / eps)`.

    Returns:
      [...] nats; log 2 where the policy is the reference.

    Raises:
      ValueError: beta is a Python number that is not positive; target has another shape than the margin.

    Source: Direct Preference Optimization (arXiv 2305.18290), equation 7.
    """
    expect_positive(beta=beta)
    expect_scalar_or_shape_of(margin, target=target)
    return logistic_loss(jnp.asarray(beta) * jnp.asarray(margin), target)


@in_single_precision
def robust_dpo_loss(margin: ArrayLike, beta: ArrayLike = 0.1, flip_probability: ArrayLike = 0.1) -> Array:
    """DPO whose mean over randomly flipped labels is the loss of the clean ones.

    With eps the probability of a flip: `((1 - eps) * sp(-beta * margin) - eps * sp(beta * margin)) / (1 - 2 * eps)`, that is
    the logistic loss to a "probability" beyond 1, which is why it has no lower bound.

    Args:
      margin: [...] as from `preference_margin`, in nats.
      beta: [] as for `dpo_loss`.
      flip_probability: [] share of labels that are wrong, in [0, 1/2).

    Returns:
      [...] nats; may be negative.

    Raises:
      ValueError: beta or flip_probability is a Python number outside its range.

    Source: Provably Robust DPO (arXiv 2403.00409).
    """
    expect_between(0.0, 0.5, "[)", flip_probability=flip_probability)
    flips = jnp.asarray(flip_probability)
    return dpo_loss(margin, beta, (1.0 - flips) / (1.0 - 2.0 * flips))


@in_single_precision
def ipo_loss(margin: ArrayLike, beta: ArrayLike = 0.1) -> Array:
    """IPO: the squared distance of the margin from `1 / (2 * beta)`, so that certain labels do not drive it to infinity.

    Args:
      margin: [...] as from `preference_margin`, in nats. The paper's are of summed log-probabilities; for the common code's,
        pass margins of means per token.
      beta: [] positive; the larger, the nearer the policy stays to the reference.

    Returns:
      [...] squared nats; `1 / (4 * beta**2)` where the policy is the reference.

    Raises:
      ValueError: beta is a Python number that is not positive.

    Source: A General Theoretical Paradigm to Understand Learning from Human Preferences (arXiv 2310.12036), equation 17.
    """
    expect_positive(beta=beta)
    return (jnp.asarray(margin) - 0.5 / jnp.asarray(beta)) ** 2


@in_single_precision
def hinge_loss(margin: ArrayLike, beta: ArrayLike = 0.1) -> Array:
    """SLiC with a reference: `max(0, 1 - beta * margin)`.

    Args:
      margin: [...] as from `preference_margin`, in nats.
      beta: [] positive.

    Returns:
      [...] 0 once `beta * margin` has reached 1.

    Raises:
      ValueError: beta is a Python number that is not positive.

    Source: SLiC-HF (arXiv 2305.10425), with DPO's reward.
    """
    expect_positive(beta=beta)
    return jax.nn.relu(1.0 - jnp.asarray(beta) * jnp.asarray(margin))


@in_single_precision
def exo_loss(margin: ArrayLike, beta: ArrayLike = 0.1, epsilon: float = 1e-3) -> Array:
    """EXO on pairs: the divergence of the policy's preference from a smoothed label, in the direction that DPO does not take.

    `p * log(p / (1 - epsilon)) + (1 - p) * log((1 - p) / epsilon)` with `p = sigmoid(beta * margin)`.

    Args:
      margin: [...] as from `preference_margin`, in nats.
      beta: [] positive.
      epsilon: share of the label that goes to the rejected response, in (0, 1/2).

    Returns:
      [...] nats, at least 0: the divergence is 0 where `p` is `1 - epsilon`.

    Raises:
      ValueError: beta or epsilon is a Python number outside its range.

    Source: Towards Efficient Exact Optimization of Language Model Alignment (arXiv 2402.00856), on pairs.
    """
    expect_positive(beta=beta)
    expect_between(0.0, 0.5, "()", epsilon=epsilon)
    scaled = jnp.asarray(beta) * jnp.asarray(margin)
    preferred = jax.nn.sigmoid(scaled)
    over_chosen = -logistic_loss(scaled, 1.0) - math.log1p(-epsilon)
    over_rejected = -logistic_loss(scaled, 0.0) - math.log(epsilon)
    return preferred * over_chosen + (1.0 - preferred) * over_rejected


@in_single_precision
def simpo_loss(margin: ArrayLike, beta: ArrayLike = 2.0, gap: ArrayLike = 1.0) -> Array:
    """SimPO: DPO without a reference, on means per token, with a gap that the chosen response must win by.

    Args:
      margin: [...] `preference_margin` of mean log-probabilities per token and no references, in nats per token.
      beta: [] positive; 2 to 2.5 in the paper.
      gap: [] gamma of the paper, 0.5 to 1.6 there; in the units of `beta * margin`.

    Returns:
      [...] nats.

    Raises:
      ValueError: beta is a Python number that is not positive.

    Source: SimPO: Simple Preference Optimization with a Reference-Free Reward (arXiv 2405.14734).
    """
    expect_positive(beta=beta)
    return logistic_loss(jnp.asarray(beta) * jnp.asarray(margin) - jnp.asarray(gap))


@in_single_precision
def orpo_loss(
    mean_log_prob_chosen: ArrayLike,
    mean_log_prob_rejected: ArrayLike,
    weight: ArrayLike = 0.1,
    likelihood: ArrayLike | None = None,
) -> Array:
    """ORPO: likelihood of the chosen response and, besides, a logistic loss on the ratio of the odds of both.

    `-m_chosen + weight * sp(logit_rejected - logit_chosen)`, `logit = m - log(1 - exp(m))`.

    Args:
      mean_log_prob_chosen: [...] mean log-probability per token of the chosen response, in nats; above -1e-6 the odds stay
        what they are there, and have no gradient.
      mean_log_prob_rejected: [...] the same of the rejected one.
      weight: [] lambda of the paper.
      likelihood: [...] log-likelihood of the chosen response where its mean per token is not meant (TRL: a mean over all
        tokens of the batch).

    Returns:
      [...] nats.

    Raises:
      ValueError: the shapes differ.

    Source: ORPO: Monolithic Preference Optimization without Reference Model (arXiv 2403.07691).
    """
    expect_same_shape(mean_log_prob_chosen=mean_log_prob_chosen, mean_log_prob_rejected=mean_log_prob_rejected)
    odds = _log_odds(mean_log_prob_chosen) - _log_odds(mean_log_prob_rejected)
    return jnp.asarray(weight) * logistic_loss(odds) - jnp.asarray(
        mean_log_prob_chosen if likelihood is None else likelihood
    )


@in_single_precision
def rpo_loss(margin: ArrayLike, likelihood: ArrayLike, beta: ArrayLike = 0.1, weight: ArrayLike = 1.0) -> Array:
    """DPO and, besides, the likelihood of the chosen response, which DPO alone may lower.

    Args:
      margin: [...] as from `preference_margin`, in nats.
      likelihood: [...] log-likelihood of the chosen response, in nats: its mean per token in the paper.
      beta: [] as for `dpo_loss`.
      weight: [] of the likelihood.

    Returns:
      [...] nats.

    Raises:
      ValueError: beta is a Python number that is not positive; the shapes differ.

    Source: Iterative Reasoning Preference Optimization (arXiv 2404.19733).
    """
    expect_same_shape(margin=margin, likelihood=likelihood)
    return dpo_loss(margin, beta) - jnp.asarray(weight) * jnp.asarray(likelihood)


@in_single_precision
def cpo_loss(
    log_prob_chosen: ArrayLike,
    log_prob_rejected: ArrayLike,
    beta: ArrayLike = 0.1,
    weight: ArrayLike = 1.0,
    likelihood: ArrayLike | None = None,
) -> Array:
    """CPO: DPO without a reference and, besides, the likelihood of the chosen response.

    Args:
      log_prob_chosen: [...] log-probability of the chosen response, in nats, summed over its tokens.
      log_prob_rejected: [...] the same of the rejected one.
      beta: [] positive.
      weight: [] of the likelihood; 1 in the paper.
      likelihood: [...] log-likelihood of the chosen response where its sum is not meant (TRL: a mean over all tokens of the
        batch).

    Returns:
      [...] nats.

    Raises:
      ValueError: beta is a Python number that is not positive; the shapes differ.

    Source: Contrastive Preference Optimization (arXiv 2401.08417).
    """
    likelihood = log_prob_chosen if likelihood is None else likelihood
    return rpo_loss(preference_margin(log_prob_chosen, log_prob_rejected), likelihood, beta, weight)


@in_single_precision
def kto_loss(
    log_ratio: ArrayLike,
    desirable: ArrayLike,
    baseline: ArrayLike,
    beta: ArrayLike = 0.1,
    desirable_weight: ArrayLike = 1.0,
    undesirable_weight: ArrayLike = 1.0,
) -> Array:
    """KTO: responses that are each good or bad, without pairs; gains and losses are seen from a baseline, and level off.

    Args:
      log_ratio: [...] log-probability of a response minus that under the reference, in nats.
      desirable: [...] whether the response is a good one.
      baseline: [] as from `kto_baseline`, in nats; held constant.
      beta: [] positive.
      desirable_weight: [] of good responses. Weight times number should be 1 to 4/3 times that of the bad ones.
      undesirable_weight: [] of bad responses.

    Returns:
      [...] between 0 and the weight, without unit.

    Raises:
      ValueError: beta is a Python number that is not positive; the shapes differ.

    Source: KTO: Model Alignment as Prospect Theoretic Optimization (arXiv 2402.01306).
    """
    expect_positive(beta=beta)
    expect_same_shape(log_ratio=log_ratio, desirable=desirable)
    gain = jnp.asarray(beta) * (jnp.asarray(log_ratio) - jax.lax.stop_gradient(jnp.asarray(baseline)))
    good = jnp.asarray(desirable, bool)
    weight = jnp.where(good, jnp.asarray(desirable_weight), jnp.asarray(undesirable_weight))
    return weight * jax.nn.sigmoid(jnp.where(good, -gain, gain))


@in_single_precision
def kto_baseline(mismatched_log_ratio: ArrayLike, mask: ArrayLike | None = None) -> Array:
    """Where KTO sees gains and losses from: an estimate of the divergence from the reference, at least 0.

    Args:
      mismatched_log_ratio: [...] log-probability minus that under the reference of responses to other prompts: response
        i - 1 (of the whole batch, both labels, in a circle) after prompt i, in nats.
      mask: [...] which of them count; None for all.

    Returns:
      [] nats, without gradient; 0 where nothing counts.

    Source: KTO: Model Alignment as Prospect Theoretic Optimization (arXiv 2402.01306); the mismatch as in TRL.
    """
    ratio = jax.lax.stop_gradient(jnp.asarray(mismatched_log_ratio))
    return jnp.maximum(masked_mean(ratio, jnp.ones(ratio.shape, bool) if mask is None else mask), 0.0)


def _log_odds(log_prob: ArrayLike) -> Array:
    log_prob = jnp.minimum(jnp.asarray(log_prob), _LARGEST_MEAN_LOG_PROB)
    return log_prob - jax.nn.log1mexp(-log_prob)
