"""Margins between responses other than DPO's, for the logistic loss: other divergences, other rewards, other pairings.

Source: Beyond Reverse KL (arXiv 2309.16240), Distributional Preference Alignment via Optimal Transport (arXiv 2406.05882),
AlphaPO (arXiv 2501.03884), Discovering Preference Optimization Algorithms (arXiv 2406.08414), WPO (arXiv 2406.11827).
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.arguments import expect_positive, expect_same_shape
from maxent_rl.losses.precision import in_single_precision
from maxent_rl.losses.preference import logistic_loss

DivergenceName: TypeAlias = Literal["reverse_kl", "forward_kl", "jensen_shannon", "alpha"]
_STEEPEST = 60.0  # nats, beyond which exponentials of ratios would leave single precision once squared


@in_single_precision
def divergence_reward(log_ratio: ArrayLike, divergence: DivergenceName = "reverse_kl", alpha: ArrayLike = 0.5) -> Array:
    """The implicit reward of a response where another divergence holds the policy at the reference: `f'(ratio)`.

    With r the log-ratio: reverse_kl `r` (DPO); forward_kl `-exp(-r)`; jensen_shannon `log 2 + r - softplus(r)`; alpha
    `(1 - exp(-alpha r)) / alpha`, which is DPO's at 0 and forward_kl's but for a constant at 1.

    Args:
      log_ratio: [...] log-probability of a response minus that under the reference, in nats.
      divergence: which one.
      alpha: [] of the divergence alpha, within (0, 1).

    Returns:
      [...] without unit but for reverse_kl (nats), up to a constant that margins do not see.

    Raises:
      ValueError: an unknown divergence.

    Source: arXiv 2309.16240, table 1.
    """
    ratio = jnp.asarray(log_ratio)
    if divergence == "reverse_kl":
        return ratio
    if divergence == "forward_kl":
        return -_exp(-ratio)
    if divergence == "jensen_shannon":
        return jnp.log(2.0) + ratio - jax.nn.softplus(ratio)
    if divergence == "alpha":
        return (1.0 - _exp(-jnp.asarray(alpha) * ratio)) / jnp.asarray(alpha)
    raise ValueError(f"Unknown divergence {divergence!r}; expected one of {', '.join(get_args(DivergenceName))}.")


@in_single_precision
def alpha_reward(mean_log_prob: ArrayLike, alpha: ArrayLike = 0.25) -> Array:
    """AlphaPO's reward of a response without a reference: `(1 - p^-alpha) / alpha` of its mean probability per token p.

    Args:
      mean_log_prob: [...] mean log-probability per token, in nats: log p.
      alpha: [] shape of the reward; at 0 it is log p itself (SimPO).

    Returns:
      [...] without unit (nats per token at alpha 0).

    Source: arXiv 2501.03884, equation 5.
    """
    log_prob, alpha = jnp.asarray(mean_log_prob), jnp.asarray(alpha, jnp.float32)
    flat = alpha == 0.0
    shape = jnp.where(flat, 1.0, alpha)
    # expm1 keeps the digits near 0, where the reward is nearly log p.
    return jnp.where(flat, log_prob, -jnp.expm1(jnp.minimum(-shape * log_prob, _STEEPEST)) / shape)


@in_single_precision
def sorted_margin(first: ArrayLike, second: ArrayLike, counts: ArrayLike) -> Array:
    """How far each of some numbers lies above that of equal rank among others: the one-dimensional optimal transport.

    Args:
      first: [B] numbers whose distribution is to dominate, such as margins of the policy.
      second: [B] those that they are paired with by rank, such as margins of the reference.
      counts: [B] which rows count; the others are in neither distribution.

    Returns:
      [B] `first` minus the number of its rank among `second`; 0 where a row does not count. With gradient to both.

    Raises:
      ValueError: the shapes differ.

    Source: arXiv 2406.05882, section 3.
    """
    expect_same_shape(first=first, second=second, counts=counts)
    there = jnp.asarray(counts, bool)
    first, second = jnp.where(there, jnp.asarray(first), jnp.inf), jnp.where(there, jnp.asarray(second), jnp.inf)
    rank = jnp.argsort(jnp.argsort(jax.lax.stop_gradient(first)))
    partner = second[jnp.argsort(jax.lax.stop_gradient(second))][rank]
    return jnp.where(there, jnp.where(there, first, 0.0) - jnp.where(there, partner, 0.0), 0.0)


@in_single_precision
def discopop_loss(margin: ArrayLike, beta: ArrayLike = 0.05, tau: ArrayLike = 0.05) -> Array:
    """DiscoPOP: logistic for pairs ordered wrongly, exponential for those ordered rightly, with a blend between.

    `(1 - s) * sp(-b m) + s * exp(-b m)` with `s = sigmoid(b m / tau)`.

    Args:
      margin: [...] as from `preference_margin`, in nats.
      beta: [] positive; 0.05 in the paper.
      tau: [] positive; how sharp the blend is.

    Returns:
      [...] nats; `(log 2 + 1) / 2` where the policy is the reference.

    Raises:
      ValueError: beta or tau is a Python number that is not positive.

    Source: arXiv 2406.08414, equation 5.
    """
    expect_positive(beta=beta, tau=tau)
    scaled = jnp.asarray(beta) * jnp.asarray(margin)
    share = jax.nn.sigmoid(scaled / jnp.asarray(tau))
    # s * exp(-x) as exp(log s - x): of a product, one factor would be infinite far below 0, where the other is 0.
    exponential = _exp(-scaled - jax.nn.softplus(-scaled / jnp.asarray(tau)))
    return (1.0 - share) * logistic_loss(scaled) + exponential


@in_single_precision
def on_policy_weight(mean_log_prob_chosen: ArrayLike, mean_log_prob_rejected: ArrayLike) -> Array:
    """WPO's weight of a pair: how likely the policy would have written it, at most 1; constant.

    Args:
      mean_log_prob_chosen: [...] mean log-probability per token of the chosen response, in nats; relative to what the policy
        expects of its own tokens, where the paper's alignment is wanted.
      mean_log_prob_rejected: [...] the same of the rejected one.

    Returns:
      [...] `exp` of their sum, held at 1.

    Raises:
      ValueError: the shapes differ.

    Source: arXiv 2406.11827, equation 2.
    """
    expect_same_shape(mean_log_prob_chosen=mean_log_prob_chosen, mean_log_prob_rejected=mean_log_prob_rejected)
    total = jnp.asarray(mean_log_prob_chosen) + jnp.asarray(mean_log_prob_rejected)
    return jax.lax.stop_gradient(jnp.exp(jnp.minimum(total, 0.0)))


def _exp(power: Array) -> Array:
    """The exponential, which beyond `_STEEPEST` stays what it is there: no infinite loss, and no gradient either."""
    return jnp.exp(jnp.minimum(power, _STEEPEST))
