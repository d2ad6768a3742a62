"""Advantage-weighted regression: cloning of the data's actions, the better ones more.

Source: Advantage-Weighted Regression (arXiv 1910.00177), equation 5; clipped as in Implicit Q-Learning (arXiv 2110.06169),
and with filters for weights as in Critic Regularized Regression (arXiv 2006.15134).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision


@in_single_precision
def advantage_weight(advantage: ArrayLike, inverse_temperature: ArrayLike, most: ArrayLike) -> Array:
    """The weight of an action of the data: `min(exp(inverse_temperature * advantage), most)`.

    Args:
      advantage: [...] action value minus state value, in units of return.
      inverse_temperature: [] per unit of return; 0 clones all alike.
      most: [] the largest weight.

    Returns:
      [...] weights; constant (gradients are stopped).

    Source: arXiv 2110.06169, equation 7, and its code for the clip.
    """
    exponent = inverse_temperature * jnp.asarray(advantage)
    # The minimum is taken in the exponent: exp alone would overflow to infinity first.
    return jax.lax.stop_gradient(jnp.exp(jnp.minimum(exponent, jnp.log(jnp.asarray(most)))))


@in_single_precision
def weighted_cloning_loss(log_prob: Array, weight: ArrayLike) -> Array:
    """Cloning of the actions that are worth it: `-weight * log_prob`.

    Args:
      log_prob: [...] log pi(a|s) of the data's action, in nats.
      weight: [...] what it is worth, such as `advantage_weight` or a filter; held constant. Where it is 0,
        `log_prob` may be anything.

    Returns:
      [...] loss, in nats.

    Source: Critic Regularized Regression (arXiv 2006.15134), equation 1; arXiv 2110.06169, equation 7.
    """
    weight = jax.lax.stop_gradient(jnp.asarray(weight))
    return -weight * jnp.where(weight == 0, 0.0, log_prob)
