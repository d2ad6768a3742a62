"""The entropy of softmax policies, and how a step on the logits changes it.

To first order the entropy changes by minus the covariance of log-probability and logit change: what raises the likely
lowers the entropy. The same functions serve a table of three actions and a vocabulary of 150,000 tokens.

Sources: The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models (arXiv 2505.22617); On the Entropy
Dynamics in Reinforcement Fine-Tuning of Large Language Models (arXiv 2602.03392).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.aggregation import masked_deviation
from maxent_rl.losses.precision import in_single_precision
from maxent_rl.losses.rounding import without_rounding


@in_single_precision
def softmax_entropy(logits: ArrayLike) -> Array:
    """Exact entropy of `softmax(logits)`, with `0 log 0 = 0`, differentiable also where a logit is -inf.

    Args:
      logits: [..., choice].

    Returns:
      [...] nats.
    """
    probs, log_probs = _distribution(logits)
    return -jnp.sum(probs * log_probs, axis=-1)


@in_single_precision
def probability_entropy(probabilities: ArrayLike) -> Array:
    """Exact entropy of a distribution that is given by its probabilities, with `0 log 0 = 0`.

    Args:
      probabilities: [..., choice] whose rows sum to 1.

    Returns:
      [...] nats.
    """
    probabilities = jnp.asarray(probabilities)
    return -jnp.sum(jax.scipy.special.xlogy(probabilities, probabilities), axis=-1)


@in_single_precision
def entropy_gradient(logits: ArrayLike) -> Array:
    """The gradient of the entropy in the logits: `-p (log p + H)`, which sums to zero.

    Args:
      logits: [..., choice].

    Returns:
      [..., choice] nats per unit of logit.

    Source: arXiv 2505.22617, derivation of the covariance form.
    """
    probs, log_probs = _distribution(logits)
    entropy = -jnp.sum(probs * log_probs, axis=-1, keepdims=True)
    return -probs * (log_probs + entropy)


@in_single_precision
def entropy_change(logits: ArrayLike, step: ArrayLike) -> Array:
    """First-order change of the entropy for a step on the logits: `-Cov_{y~p}(log p(y), step(y))`.

    Args:
      logits: [..., choice].
      step: [..., choice] change of the logits; a constant added to all choices changes nothing.

    Returns:
      [...] nats; the error is of second order in the step.

    Source: arXiv 2505.22617, the covariance form; equals `entropy_gradient(logits) . step`.
    """
    probs, log_probs = _distribution(logits)
    return -_covariance(probs, log_probs, jnp.asarray(step))


@in_single_precision
def policy_gradient_step(logits: ArrayLike, advantage: ArrayLike, natural: bool = False) -> Array:
    """The step on the logits that one exact, expected policy-gradient step of learning rate 1 takes.

    Args:
      logits: [..., choice].
      advantage: [..., choice] of every choice; centred here under the policy.
      natural: the natural gradient's, `A`, instead of the plain one's, `p A`.

    Returns:
      [..., choice]; times the learning rate it is what `entropy_change` takes.

    Source: arXiv 2505.22617, theorem for the softmax policy under policy gradient and natural policy gradient.
    """
    probs, _ = _distribution(logits)
    advantages = jnp.asarray(advantage)
    centred = advantages - jnp.sum(probs * advantages, axis=-1, keepdims=True)
    return centred if natural else probs * centred


@in_single_precision
def entropy_discriminant(log_prob: ArrayLike, entropy: ArrayLike) -> Array:
    """S*: by how much, to first order, raising the logit of a choice lowers the entropy: `p (H + log p)`.

    Positive exactly where the choice is likelier than `exp(-H)`, and 0 where it is as likely but for rounding, as all are
    under a uniform policy.

    Args:
      log_prob: [...] of the choice, in nats.
      entropy: [...] of the whole distribution, in nats.

    Returns:
      [...] nats per unit of logit.

    Source: arXiv 2602.03392, theorem 3.2.
    """
    log_probs, entropy = jnp.asarray(log_prob), jnp.asarray(entropy)
    probs = jnp.exp(log_probs)
    finite = jnp.where(probs > 0, log_probs, 0.0)
    beyond = without_rounding(entropy + finite, jnp.maximum(jnp.abs(entropy), jnp.abs(finite)))
    return jnp.where(probs > 0, probs * beyond, 0.0)


@in_single_precision
def expected_discriminant(log_probs: ArrayLike) -> Array:
    """The mean of S* over the policy's own choices, `H sum p^2 + sum p^2 log p`: where updates change no entropy.

    It is the covariance of `p` and `log p`, so it is never negative.

    Args:
      log_probs: [..., choice] normalised log-probabilities, in nats.

    Returns:
      [...] nats per unit of logit.

    Source: arXiv 2602.03392, theorem 3.3.
    """
    probs, log_probs = _distribution(log_probs)
    return jnp.maximum(_covariance(probs, probs, log_probs), 0.0)


@in_single_precision
def covariance_contribution(log_prob: ArrayLike, advantage: ArrayLike, mask: ArrayLike) -> Array:
    """What each sampled choice adds to the covariance of advantage and log-probability over a batch.

    Positive where the update of that choice lowers the entropy. The mean over the valid choices is the covariance.

    Args:
      log_prob: [...] in nats; held constant.
      advantage: [...]; held constant.
      mask: [...] where a choice counts.

    Returns:
      [...] nats times advantage; 0 where masked.

    Source: arXiv 2505.22617, equation of Clip-Cov and KL-Cov.
    """
    # A deviation of exactly 0 where all advantages are equal: rounding would otherwise rank the tokens.
    log_probs, advantages = (jax.lax.stop_gradient(jnp.asarray(values)) for values in (log_prob, advantage))
    return masked_deviation(log_probs, mask) * masked_deviation(advantages, mask)


def _distribution(logits: ArrayLike) -> tuple[Array, Array]:
    """Probabilities and their logarithms, the latter 0 where a choice is ruled out, for sums of p log p."""
    log_probs = jax.nn.log_softmax(jnp.asarray(logits))
    ruled_out = jnp.isneginf(log_probs)  # twice: the gradient must not see -inf either
    finite = jnp.where(ruled_out, 0.0, log_probs)
    return jnp.where(ruled_out, 0.0, jnp.exp(finite)), finite


def _covariance(probs: Array, left: Array, right: Array) -> Array:
    """Cov_p(left, right) over the last axis, by deviations: a difference of products would lose small covariances."""
    left_mean = jnp.sum(probs * left, axis=-1, keepdims=True)
    right_mean = jnp.sum(probs * right, axis=-1, keepdims=True)
    return jnp.sum(probs * (left - left_mean) * (right - right_mean), axis=-1)
