"""Losses that move a policy towards higher value."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def soft_policy_loss(q: ArrayLike, log_prob: ArrayLike, temperature: ArrayLike) -> Array:
    """Pathwise loss of a reparameterised policy: `temperature * log_prob - q`.

    Its expectation is the temperature times the divergence KL(pi || exp(q / temperature) / Z), up to a constant.

    Args:
      q: [...] action value of a reparameterised action; the gradient flows through it into the action.
      log_prob: [...] log pi(a|s) of that action, in nats.
      temperature: [] weight of the entropy, in return per nat; held constant.

    Returns:
      [...] loss per sample, in units of return.

    Source: Soft Actor-Critic Algorithms and Applications (arXiv 1812.05905), equation 9.
    """
    return jax.lax.stop_gradient(jnp.asarray(temperature)) * jnp.asarray(log_prob) - jnp.asarray(q)
