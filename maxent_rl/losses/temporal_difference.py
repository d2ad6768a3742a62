"""Temporal differences of action values: targets that bootstrap, and how far a value is from them.

Values of finitely many choices have the choices on their last axis.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision


@in_single_precision
def bellman_target(reward: ArrayLike, discount: ArrayLike, terminated: ArrayLike, next_value: ArrayLike) -> Array:
    """What a value should be: `y = reward + discount * (1 - terminated) * next_value`.

    Only termination ends the sum; an episode cut by a time limit bootstraps from its true last observation.

    Args:
      reward: [...] reward, or the discounted sum of several steps' rewards.
      discount: [] or [...] factor for the value after the last of those steps: gamma, or gamma**n.
      terminated: [...] 1 or True where the episode ended in a terminal state.
      next_value: [...] value of what follows.

    Returns:
      [...] target in units of return; constant (all gradients are stopped).
    """
    going_on = 1.0 - jnp.asarray(terminated, dtype=jnp.result_type(float))
    return jax.lax.stop_gradient(jnp.asarray(reward) + discount * going_on * jnp.asarray(next_value))


@in_single_precision
def taken_value(values: Array, action: ArrayLike) -> Array:
    """The values of given choices.

    Args:
      values: [..., choice].
      action: [...] or broadcastable, whole numbers from 0, of any type.

    Returns:
      [...] in the unit of the values.
    """
    # A mask, not a gather: the gradient of a gather is a scatter, one element after the other on a CPU.
    index = jnp.asarray(action).astype(jnp.int32)[..., None]
    return jnp.sum(jnp.where(index == jnp.arange(values.shape[-1]), values, 0.0), axis=-1)


@in_single_precision
def double_q_value(selecting: Array, valuing: Array) -> Array:
    """The value, by one function, of the choice that another finds best.

    Args:
      selecting: [..., choice] values that select: the online network's; minus infinity for what may not be chosen.
      valuing: [..., choice] values of what is selected: the target network's.

    Returns:
      [...] in units of return.

    Source: Deep Reinforcement Learning with Double Q-learning (arXiv 1509.06461), equation 4.
    """
    return taken_value(valuing, jnp.argmax(selecting, axis=-1))


@in_single_precision
def huber(error: ArrayLike, delta: ArrayLike = 1.0) -> Array:
    """Half the square of small errors, linear beyond: `delta * (|error| - delta / 2)` where |error| > delta.

    Args:
      error: [...].
      delta: [] where the square ends, in the unit of the error; its gradient's largest size.

    Returns:
      [...] loss per element; once differentiable everywhere.

    Source: Robust Estimation of a Location Parameter, P. Huber, 1964.
    """
    error, delta = jnp.asarray(error), jnp.asarray(delta)
    clipped = jnp.clip(error, -delta, delta)
    # Of one form on both sides: the gradient is the clipped error, also for errors whose square overflows.
    return clipped * (error - 0.5 * clipped)


@in_single_precision
def temporal_difference_loss(value: ArrayLike, target: ArrayLike, delta: ArrayLike = 1.0) -> Array:
    """The Huber loss of a value's distance from its target.

    Args:
      value: [...] in units of return.
      target: [...] held constant.
      delta: [] where the loss goes from square to linear.

    Returns:
      [...] loss per element.
    """
    return huber(jnp.asarray(value) - jax.lax.stop_gradient(jnp.asarray(target)), delta)
