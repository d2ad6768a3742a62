"""What keeps a policy that is learned from fixed data to the actions of the data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision
from maxent_rl.losses.rounding import rounding_of


@in_single_precision
def conservative_penalty(values: Array, data_value: ArrayLike) -> Array:
    """How much better than the data's action the best others look: `log sum_k exp(Q_k) - Q(s, a_data)`.

    Its gradient lowers all values, the largest most, and raises that of the data's action. With temperature T give values
    divided by T, and multiply the penalty by T.

    Args:
      values: [..., choice] values of all choices, in units of return; `sampled_conservative_gap` has sampled actions.
      data_value: [...] value of the data's action.

    Returns:
      [...] in units of return, at least 0.

    Source: Conservative Q-Learning for Offline Reinforcement Learning (arXiv 2006.04779), equation 4.
    """
    return jax.nn.logsumexp(values, axis=-1) - data_value


@in_single_precision
def likely_choices(log_prob: Array, threshold: ArrayLike) -> Array:
    """Which choices are likely enough: those whose probability, relative to the likeliest, is above a threshold.

    Args:
      log_prob: [..., choice] log-probabilities in nats, up to a constant (logits).
      threshold: [] from 0 to below 1.

    Returns:
      [..., choice] booleans; at least one in each row is true.

    Source: Benchmarking Batch Deep Reinforcement Learning Algorithms (arXiv 1910.01708), equation 16.
    """
    return jnp.exp(log_prob - jnp.max(log_prob, axis=-1, keepdims=True)) > threshold


@in_single_precision
def better_than_policy(value: Array, sampled_values: Array) -> Array:
    """The binary filter: whether an action is better than what the policy does on average.

    Args:
      value: [...] value of the action.
      sampled_values: [..., K] values of actions that were drawn from the policy.

    Returns:
      [...] 1 where the value is above their mean by more than rounding, else 0.

    Source: Critic Regularized Regression (arXiv 2006.15134), equation 3 with the advantage's mean estimator.
    """
    # A policy that only takes the data's action has a mean of that action's value, which must not pass by rounding.
    size = jnp.maximum(jnp.abs(value), jnp.max(jnp.abs(sampled_values), axis=-1))
    return jnp.asarray(value - jnp.mean(sampled_values, axis=-1) > rounding_of(size), value.dtype)
