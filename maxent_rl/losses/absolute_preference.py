"""Losses on pairs that look at each response's own log-ratio to the reference, not at the difference of the two alone.

DPO may lower the likelihood of both responses, as long as the rejected one falls faster; these say where each should go.

Source: Noise Contrastive Alignment (arXiv 2402.05369), Binary Classifier Optimization (arXiv 2404.04656), Self-Play Preference
Optimization (arXiv 2405.00675), Anchored Preference Optimization (arXiv 2408.06266).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.arguments import expect_positive, expect_same_shape, expect_scalar_or_shape_of
from maxent_rl.losses.precision import in_single_precision
from maxent_rl.losses.preference import logistic_loss


@in_single_precision
def nca_loss(chosen: ArrayLike, rejected: ArrayLike, beta: ArrayLike = 0.1) -> Array:
    """NCA on pairs: each response is told from noise, and the chosen one's likelihood does not fall.

    `sp(-b c) + sp(b c) / 2 + sp(b r) / 2`, with sp the softplus and b beta.

    Args:
      chosen: [...] log-probability of the chosen response minus that under the reference, in nats.
      rejected: [...] the same of the rejected one.
      beta: [] weight of the divergence from the reference, positive.

    Returns:
      [...] nats; least at `beta * chosen = log 2` and `rejected = -inf`.

    Raises:
      ValueError: beta is a Python number that is not positive; the shapes differ.

    Source: arXiv 2402.05369, with two responses and rewards of 1 and 0 at a temperature of 0.
    """
    good, bad = _rewards(chosen, rejected, beta)
    return logistic_loss(good) + 0.5 * logistic_loss(good, 0.0) + 0.5 * logistic_loss(bad, 0.0)


@in_single_precision
def bco_loss(chosen: ArrayLike, rejected: ArrayLike, beta: ArrayLike = 0.1, reward_shift: ArrayLike = 0.0) -> Array:
    """BCO on pairs: a binary classifier of good and bad responses, whose logit is the implicit reward less a shift.

    Args:
      chosen: [...] log-probability of the chosen response minus that under the reference, in nats.
      rejected: [...] the same of the rejected one.
      beta: [] positive.
      reward_shift: [] or [...] what is taken off both rewards; held constant. The paper's is the mean of the rewards of chosen
        and rejected responses; 0 where it is left out.

    Returns:
      [...] nats; `2 log 2` where the policy is the reference, without shift.

    Raises:
      ValueError: beta is a Python number that is not positive; the shapes differ.

    Source: arXiv 2404.04656, equation 11.
    """
    good, bad = _rewards(chosen, rejected, beta)
    expect_scalar_or_shape_of(good, reward_shift=reward_shift)
    shift = jax.lax.stop_gradient(jnp.asarray(reward_shift))
    return logistic_loss(good - shift) + logistic_loss(bad - shift, 0.0)


@in_single_precision
def sppo_loss(chosen: ArrayLike, rejected: ArrayLike, beta: ArrayLike = 0.1, target: ArrayLike = 1.0) -> Array:
    """SPPO: each log-ratio is brought to how often its response wins, less a half, over beta.

    `(chosen - (p - 1/2) / beta)^2 + (rejected + (p - 1/2) / beta)^2`.

    Args:
      chosen: [...] log-probability of the chosen response minus that under the reference, in nats.
      rejected: [...] the same of the rejected one.
      beta: [] positive (1 / eta of the paper).
      target: [] or [...] p, the probability that the chosen response is the better; held constant. 1 for hard labels.

    Returns:
      [...] squared nats.

    Raises:
      ValueError: beta is a Python number that is not positive; the shapes differ.

    Source: arXiv 2405.00675, equation 4.7.
    """
    expect_positive(beta=beta)
    expect_same_shape(chosen=chosen, rejected=rejected)
    expect_scalar_or_shape_of(chosen, target=target)
    goal = (jax.lax.stop_gradient(jnp.asarray(target)) - 0.5) / jnp.asarray(beta)
    return (jnp.asarray(chosen) - goal) ** 2 + (jnp.asarray(rejected) + goal) ** 2


@in_single_precision
def apo_zero_loss(chosen: ArrayLike, rejected: ArrayLike, beta: ArrayLike = 0.1) -> Array:
    """APO-zero, where chosen responses are better than the policy's: the chosen one rises and the rejected one falls.

    `1 - sigmoid(beta * chosen) + sigmoid(beta * rejected)`.

    Args:
      chosen: [...] log-probability of the chosen response minus that under the reference, in nats.
      rejected: [...] the same of the rejected one.
      beta: [] positive.

    Returns:
      [...] within (0, 2); 1 where the policy is the reference.

    Raises:
      ValueError: beta is a Python number that is not positive; the shapes differ.

    Source: arXiv 2408.06266, equation 7.
    """
    good, bad = _rewards(chosen, rejected, beta)
    return jax.nn.sigmoid(-good) + jax.nn.sigmoid(bad)


@in_single_precision
def apo_down_loss(chosen: ArrayLike, rejected: ArrayLike, beta: ArrayLike = 0.1) -> Array:
    """APO-down, where the policy's responses are better than the chosen ones: both fall, the rejected one further.

    `sigmoid(beta * chosen) + 1 - sigmoid(beta * (chosen - rejected))`.

    Args:
      chosen: [...] log-probability of the chosen response minus that under the reference, in nats.
      rejected: [...] the same of the rejected one.
      beta: [] positive.

    Returns:
      [...] within (0, 2); 1 where the policy is the reference.

    Raises:
      ValueError: beta is a Python number that is not positive; the shapes differ.

    Source: arXiv 2408.06266, equation 8.
    """
    good, bad = _rewards(chosen, rejected, beta)
    return jax.nn.sigmoid(good) + jax.nn.sigmoid(bad - good)


def _rewards(chosen: ArrayLike, rejected: ArrayLike, beta: ArrayLike) -> tuple[Array, Array]:
    expect_positive(beta=beta)
    expect_same_shape(chosen=chosen, rejected=rejected)
    return jnp.asarray(beta) * jnp.asarray(chosen), jnp.asarray(beta) * jnp.asarray(rejected)
