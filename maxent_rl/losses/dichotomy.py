"""Dichotomy of control: what is the agent's doing is told apart from what the environment decides.

A latent of the future must not carry information on the reward and the next state beyond what history and action say. An
energy f, trained against it, measures that information: the energy term's maximum over f is how much better outcomes are
told with the latent than without anything, in nats.

Source: Dichotomy of Control: Separating What You Can Control from What You Cannot (arXiv 2210.13435).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision


@in_single_precision
def energy_term(observed: ArrayLike, sampled: ArrayLike, log_weight: ArrayLike) -> Array:
    """The outcome's energy against the mean over a fixed law rho of outcomes: `f - log E_rho exp f`.

    The law is given by outcomes and their weights: all outcomes with their probabilities, or n of a batch with weights 1/n.
    The term changes nothing when a function of the condition alone is added to f. f ascends it, the latent descends it.

    Args:
      observed: [...] energy of what happened.
      sampled: [..., n] energies of the outcomes of rho, under the same condition.
      log_weight: [..., n] log-probability of each under rho; minus infinity for one that does not count.

    Returns:
      [...] nats; its maximum over f is log Pr(outcome | condition) / rho(outcome) in the mean.

    Source: Dichotomy of Control (arXiv 2210.13435), section 4.
    """
    return jnp.asarray(observed) - jax.nn.logsumexp(jnp.asarray(sampled) + jnp.asarray(log_weight), axis=-1)


@jax.custom_vjp
def reverse_gradient(value: Array, scale: ArrayLike) -> Array:
    """The value as it is, whose gradient comes back turned round and `scale` times as large.

    With it, one descent is both: of what stands behind, and the ascent of what stands before.

    Args:
      value: any array.
      scale: [] factor of the reversed gradient; held constant.
    """
    return value


def _reverse_forward(value: Array, scale: ArrayLike) -> tuple[Array, Array]:
    return value, jnp.asarray(scale)


def _reverse_backward(scale: Array, gradient: Array) -> tuple[Array, Array]:
    return -scale * gradient, jnp.zeros_like(scale)


reverse_gradient.defvjp(_reverse_forward, _reverse_backward)
