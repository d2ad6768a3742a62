"""The soft Bellman equation: values that count the policy's entropy as reward.

Source: Soft Actor-Critic Algorithms and Applications (arXiv 1812.05905), equations 2 to 5.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision
from maxent_rl.losses.temporal_difference import bellman_target


@in_single_precision
def soft_value(q: ArrayLike, log_prob: ArrayLike, temperature: ArrayLike) -> Array:
    """The soft value of a state, estimated from one sampled action: `q - temperature * log_prob`.

    Args:
      q: [...] action value of the sampled action, in units of return.
      log_prob: [...] log pi(a|s) of that action, in nats.
      temperature: [] or [...] weight of the entropy, in return per nat.

    Returns:
      [...] value, in units of return. Differentiable in everything.

    Source: arXiv 1812.05905, equation 3.
    """
    return jnp.asarray(q) - temperature * jnp.asarray(log_prob)


@in_single_precision
def soft_bellman_target(
    reward: ArrayLike,
    discount: ArrayLike,
    terminated: ArrayLike,
    next_q: ArrayLike,
    next_log_prob: ArrayLike,
    temperature: ArrayLike,
) -> Array:
    """What a critic should say: `y = reward + discount * (1 - terminated) * (next_q - temperature * next_log_prob)`.

    Only termination ends the sum; an episode cut by a time limit bootstraps from its true last observation.

    Args:
      reward: [...] reward, or the discounted sum of several steps' rewards.
      discount: [] or [...] factor for the value after the last of those steps: gamma, or gamma**n.
      terminated: [...] 1 or True where the episode ended in a terminal state.
      next_q: [...] target critics' value (their minimum) of an action drawn at the next observation.
      next_log_prob: [...] log pi of that action, in nats.
      temperature: [] weight of the entropy.

    Returns:
      [...] target in units of return; constant (all gradients are stopped, the temperature's included).

    Source: arXiv 1812.05905, equations 2 and 3.
    """
    return bellman_target(reward, discount, terminated, soft_value(next_q, next_log_prob, temperature))


@in_single_precision
def critic_loss(q: ArrayLike, target: ArrayLike) -> Array:
    """Squared Bellman error with the customary half: `0.5 * (q - target)**2`.

    Args:
      q: [...] a critic's action value.
      target: [...] or broadcastable; held constant.

    Returns:
      [...] loss per element, in units of return squared.

    Source: arXiv 1812.05905, equation 5.
    """
    error = jnp.asarray(q) - jax.lax.stop_gradient(jnp.asarray(target))
    return 0.5 * error**2
