"""Policy improvement that stays near the data: value against distance from the data's actions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision

_SMALLEST_VALUE = 1e-8  # where all values are 0 there is nothing to climb, and nothing to divide by


@in_single_precision
def behavior_regularized_loss(
    q: ArrayLike, distance: ArrayLike, value_weight: ArrayLike, distance_weight: ArrayLike
) -> Array:
    """A policy's loss in which values are measured by their own size: `distance_weight * distance - lambda * q`.

    `lambda = value_weight / mean(|q|)`, so that the balance does not depend on the scale of rewards.

    Args:
      q: [batch] values of the policy's actions, in units of return.
      distance: [batch] squared distance of the policy's actions from the data's.
      value_weight: [] TD3+BC's alpha; 1 for ReBRAC.
      distance_weight: [] ReBRAC's beta_1; 1 for TD3+BC.

    Returns:
      [batch] loss per action; lambda is held constant.

    Source: A Minimalist Approach to Offline Reinforcement Learning (arXiv 2106.06860), equations 4 and 5; Revisiting the
      Minimalist Approach to Offline Reinforcement Learning (arXiv 2305.09836), section 3.
    """
    q = jnp.asarray(q)
    scale = value_weight / jnp.maximum(jnp.mean(jnp.abs(jax.lax.stop_gradient(q))), _SMALLEST_VALUE)
    return jnp.asarray(distance_weight) * jnp.asarray(distance) - scale * q


@in_single_precision
def smoothed_action(action: ArrayLike, noise: ArrayLike, scale: ArrayLike, most: ArrayLike) -> Array:
    """An action with clipped noise, within the box: `clip(action + clip(scale * noise, -most, most), -1, 1)`.

    Args:
      action: [..., action] in [-1, 1].
      noise: [..., action] standard normal.
      scale: [] standard deviation of the noise before it is clipped.
      most: [] the largest size of the noise.

    Returns:
      [..., action].

    Source: Addressing Function Approximation Error in Actor-Critic Methods (arXiv 1802.09477), equation 14.
    """
    most = jnp.asarray(most)
    return jnp.clip(jnp.asarray(action) + jnp.clip(scale * jnp.asarray(noise), -most, most), -1.0, 1.0)
