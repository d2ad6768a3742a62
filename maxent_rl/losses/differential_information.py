"""What an update of a policy adds: the distribution of the differential information, and preferences that hold just that.

Source: Differential Information: An Information-Theoretic Perspective on Preference Optimization (arXiv 2505.23761).
Outcomes lie along the last axis; policies give all of them some probability. DPO on preferences whose rejected responses
come from `best_rejected` ends at the target that they were made for.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.arguments import expect_positive, expect_same_shape
from maxent_rl.losses.entropy import softmax_entropy
from maxent_rl.losses.precision import in_single_precision


@in_single_precision
def differential_information(log_prob: ArrayLike, reference_log_prob: ArrayLike) -> Array:
    """Logarithm of `q = (pi / reference) / sum(pi / reference)`: the evidence that makes `pi` of the reference.

    Args:
      log_prob: [..., Y] log pi of every outcome, in nats, up to a constant.
      reference_log_prob: [..., Y] the same of the policy before the update.

    Returns:
      [..., Y] log q in nats, differentiable in both; uniform where the policies are the same.

    Raises:
      ValueError: the shapes differ.

    Source: Differential Information (arXiv 2505.23761), the definition of the differential information distribution.
    """
    return jax.nn.log_softmax(_log_ratio(log_prob, reference_log_prob), axis=-1)


@in_single_precision
def differential_information_entropy(log_prob: ArrayLike, reference_log_prob: ArrayLike) -> Array:
    """Exact entropy of the differential information: low where mass gathers on few outcomes, high where it spreads.

    Args:
      log_prob: [..., Y] as for `differential_information`.
      reference_log_prob: [..., Y].

    Returns:
      [...] nats, between 0 and log Y.

    Raises:
      ValueError: the shapes differ.

    Source: Differential Information (arXiv 2505.23761).
    """
    return softmax_entropy(_log_ratio(log_prob, reference_log_prob))


@in_single_precision
def sampled_differential_information_entropy(log_ratio: ArrayLike, sample_log_prob: ArrayLike) -> Array:
    """The same entropy from K samples of any policy, by self-normalised importance sampling: biased, but less with more.

    Args:
      log_ratio: [..., K] log of pi / reference of each sample, in nats, up to a constant per row.
      sample_log_prob: [..., K] log-probability under the policy that drew the samples (`pi`, the reference, or another),
        normalised.

    Returns:
      [...] nats, of the number of outcomes that there are, not of K; for reports, where K is small.

    Raises:
      ValueError: the shapes differ.

    Source: Differential Information (arXiv 2505.23761), with K = 32; which policy it draws from is not confirmed.
    """
    expect_same_shape(log_ratio=log_ratio, sample_log_prob=sample_log_prob)
    log_ratio = jnp.asarray(log_ratio)
    log_weight = log_ratio - jnp.asarray(sample_log_prob)
    log_total = jax.nn.logsumexp(log_weight, axis=-1) - jnp.log(jnp.float32(log_ratio.shape[-1]))
    return log_total - jnp.sum(jax.nn.softmax(log_weight, axis=-1) * log_ratio, axis=-1)


@in_single_precision
def best_rejected(reference_log_prob: ArrayLike, target_log_prob: ArrayLike, beta: ArrayLike = 1.0) -> Array:
    """From which rejected responses must come, chosen ones being the reference's, for DPO to end at the target.

    Logarithm of `reference * (reference / target)**beta`, normalised.

    Args:
      reference_log_prob: [..., Y] of every outcome, in nats.
      target_log_prob: [..., Y] the same of the policy to be learned.
      beta: [] of the DPO that will learn from the preferences; positive.

    Returns:
      [..., Y] log-probabilities in nats.

    Raises:
      ValueError: beta is a Python number that is not positive; the shapes differ.

    Source: Differential Information (arXiv 2505.23761), the best rejected distribution.
    """
    expect_positive(beta=beta)
    reference = jnp.asarray(reference_log_prob)
    step = _log_ratio(reference_log_prob, target_log_prob)
    return jax.nn.log_softmax(reference + jnp.asarray(beta) * step, axis=-1)


@in_single_precision
def preference_probability(chosen_log_prob: ArrayLike, rejected_log_prob: ArrayLike) -> Array:
    """Which outcome of a pair is the chosen one, if chosen and rejected were drawn each from its own policy.

    Args:
      chosen_log_prob: [..., Y] of every outcome under the policy that drew the chosen ones, in nats, up to a constant.
      rejected_log_prob: [..., Y] the same of the rejected ones.

    Returns:
      [..., Y, Y] probability that the outcome of the row, not that of the column, is the chosen one; 1/2 on the diagonal.

    Raises:
      ValueError: the shapes differ.

    Source: Differential Information (arXiv 2505.23761), preferences from sampling.
    """
    evidence = _log_ratio(chosen_log_prob, rejected_log_prob)
    return jax.nn.sigmoid(evidence[..., :, None] - evidence[..., None, :])


@in_single_precision
def projected_ascent(gradient_chosen: Any, gradient_rejected: Any, margin: ArrayLike, beta: ArrayLike = 0.1) -> Any:
    """DPO's direction for one pair, without that part of it which would lower the likelihood of the chosen response (DPO-PG).

    With `c = beta * sigmoid(-beta * margin)`, g and h the gradients of the chosen and of the rejected log-probability:
    `c * (g - h + max(0, <h, g> / <g, g>) * g)`. To first order it never lowers the chosen log-probability.

    This is a reconstruction, not confirmed by the paper's text or code.

    Args:
      gradient_chosen: any tree of arrays, the gradient of the chosen response's log-probability.
      gradient_rejected: the same of the rejected response's.
      margin: [] as from `preference_margin`, in nats.
      beta: [] as for `dpo_loss`; positive.

    Returns:
      A tree as the gradients: the direction in which to go up. For a batch, `jax.vmap` and take the mean.

    Raises:
      ValueError: beta is a Python number that is not positive; the trees differ.

    Source: Differential Information (arXiv 2505.23761), DPO-PG, as reconstructed.
    """
    expect_positive(beta=beta)
    beta = jnp.asarray(beta)
    strength = beta * jax.nn.sigmoid(-beta * jnp.asarray(margin))
    along, length = _inner(gradient_rejected, gradient_chosen), _inner(gradient_chosen, gradient_chosen)
    share = jnp.where(length > 0, jnp.maximum(along, 0.0) / jnp.where(length > 0, length, 1.0), 0.0)

    def direction(chosen: Array, rejected: Array) -> Array:
        return strength * (chosen - rejected + share * chosen)

    return jax.tree.map(direction, gradient_chosen, gradient_rejected)


def _inner(left: Any, right: Any) -> Array:
    return jnp.asarray(sum(jax.tree.leaves(jax.tree.map(jnp.vdot, left, right))))


def _log_ratio(log_prob: ArrayLike, reference_log_prob: ArrayLike) -> Array:
    expect_same_shape(log_prob=log_prob, reference_log_prob=reference_log_prob)
    return jnp.asarray(log_prob) - jnp.asarray(reference_log_prob)
