"""How a mixture's router learns which expert to choose.

A choice among experts has no derivative. The estimators here get around that in the ways that the literature compares: by
regression to how often an expert is best, by the score function (sampled, or exact where every expert's cost is known),
and by relaxing the choice to Gumbel-softmax weights.

Source: Probabilistic Mixture-of-Experts for Efficient Deep Reinforcement Learning (arXiv 2104.09122).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision


@in_single_precision
def router_frequency_loss(logits: ArrayLike, best: ArrayLike) -> Array:
    """Squared distance between the router's weights and the one-hot of the best expert, averaged over experts.

    Its expectation is least where the weights are the frequencies with which the experts are best.

    Args:
      logits: [..., expert] logarithms of the weights, up to a constant.
      best: [...] int32 index of the expert whose action has the highest value.

    Returns:
      [...] loss, between 0 and `2 / experts`.

    Source: arXiv 2104.09122, "frequency approximation"; the mean over experts is the authors' code's.
    """
    weights = jax.nn.softmax(jnp.asarray(logits))
    target = jax.nn.one_hot(best, weights.shape[-1], dtype=weights.dtype)
    return jnp.mean((target - weights) ** 2, axis=-1)


@in_single_precision
def router_score_loss(logits: ArrayLike, choice: ArrayLike, cost: ArrayLike) -> Array:
    """Score function (REINFORCE) of the choice: its log-probability times its cost less the expected cost.

    The expected cost does not depend on the choice, so it lowers the variance and leaves the gradient unbiased.

    Args:
      logits: [..., expert] logarithms of the weights, up to a constant.
      choice: [...] int32 expert that was drawn from the weights.
      cost: [..., expert] of every expert's action, such as `temperature * log_prob - q`; held constant.

    Returns:
      [...] loss, whose gradient is an estimate of that of the expected cost; its value means nothing.

    Source: Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning (1992).
    """
    log_weights = jax.nn.log_softmax(jnp.asarray(logits))
    costs = jax.lax.stop_gradient(jnp.asarray(cost))
    expected = jnp.sum(jax.lax.stop_gradient(jnp.exp(log_weights)) * costs, axis=-1)
    index = jnp.asarray(choice, jnp.int32)[..., None]
    drawn_cost, drawn_log_weight = (jnp.take_along_axis(of, index, axis=-1)[..., 0] for of in (costs, log_weights))
    return drawn_log_weight * (drawn_cost - expected)


@in_single_precision
def router_exact_loss(logits: ArrayLike, cost: ArrayLike, temperature: ArrayLike = 0.0) -> Array:
    """Expected cost of the choice, with the router's own entropy as reward: `sum_k w_k (cost_k + temperature * log w_k)`.

    Args:
      logits: [..., expert] logarithms of the weights, up to a constant.
      cost: [..., expert] of every expert's action; held constant.
      temperature: [] weight of the router's entropy, in cost per nat; held constant.

    Returns:
      [...] expected cost. Least where `w_k` is proportional to `exp(-cost_k / temperature)`.
    """
    log_weights = jax.nn.log_softmax(jnp.asarray(logits))
    held, weight = jax.lax.stop_gradient((jnp.asarray(cost), jnp.asarray(temperature)))
    return jnp.sum(jnp.exp(log_weights) * (held + weight * log_weights), axis=-1)


@in_single_precision
def gumbel_softmax(logits: ArrayLike, gumbel: ArrayLike, relaxation: ArrayLike, hard: bool = False) -> Array:
    """Weights that stand for a random choice and have a derivative: `softmax((log w + gumbel) / relaxation)`.

    Args:
      logits: [..., choice] logarithms of the probabilities, up to a constant.
      gumbel: [..., choice] standard Gumbel noise, `-log(-log u)`.
      relaxation: [] positive temperature of the softmax; towards 0 the weights become a one-hot.
      hard: straight-through: the value is the exact one-hot of the choice, the gradient that of the soft weights.

    Returns:
      [..., choice] weights that sum to 1.

    Source: Categorical Reparameterization with Gumbel-Softmax (arXiv 1611.01144), equation 2 and section 2.2.
    """
    perturbed = (jax.nn.log_softmax(jnp.asarray(logits)) + jnp.asarray(gumbel)) / relaxation
    soft = jax.nn.softmax(perturbed)
    if not hard:
        return soft
    chosen = jax.nn.one_hot(jnp.argmax(perturbed, axis=-1), soft.shape[-1], dtype=soft.dtype)
    return chosen + (soft - jax.lax.stop_gradient(soft))  # exactly the one-hot: the bracket is 0
