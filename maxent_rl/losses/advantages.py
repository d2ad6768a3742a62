"""Advantages along trajectories, and the loss of the value function that they need."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision


@in_single_precision
def generalized_advantages(
    reward: ArrayLike,
    value: ArrayLike,
    next_value: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    discount: ArrayLike = 0.99,
    trace_decay: ArrayLike = 0.95,
) -> Array:
    """Generalized advantage estimation over a window of steps that may hold ends of episodes.

    A step that terminates has no value after it. One that is truncated has: its `next_value` is that of the episode's true
    last observation, and only the sum over later steps stops there, as those belong to another episode. The last step of
    the window bootstraps in the same way.

    Args:
      reward: [time, ...].
      value: [time, ...] of the observations that were acted on.
      next_value: [time, ...] of the observations that followed, the true last ones of episodes included.
      terminated: [time, ...] 1 or True where the task itself ended.
      truncated: [time, ...] 1 or True where the episode was cut.
      discount: [] factor per step, or [time, ...] of each step.
      trace_decay: [] lambda, or [time, ...] of each step: 0 gives temporal differences, 1 the discounted sum of rewards less
        the value.

    Returns:
      [time, ...] advantages, in units of return; with `value` added they are targets for the value function.

    Source: High-Dimensional Continuous Control Using Generalized Advantage Estimation (arXiv 1506.02438), equation 16.
    """
    rewards, values = jnp.asarray(reward), jnp.asarray(value)
    goes_on, uncut = 1.0 - jnp.asarray(terminated, rewards.dtype), 1.0 - jnp.asarray(truncated, rewards.dtype)
    difference = rewards + jnp.asarray(discount) * goes_on * jnp.asarray(next_value) - values
    decay = jnp.asarray(discount) * jnp.asarray(trace_decay) * goes_on * uncut

    def step(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        advantage = now[0] + now[1] * later
        return advantage, advantage

    _, advantages = jax.lax.scan(step, jnp.zeros_like(difference[0]), (difference, decay), reverse=True)
    return jax.lax.stop_gradient(advantages)


@in_single_precision
def response_advantages(
    reward: ArrayLike, value: ArrayLike, mask: ArrayLike, discount: ArrayLike = 1.0, trace_decay: ArrayLike = 0.95
) -> Array:
    """Generalized advantage estimation over the tokens of responses, from the values of what stood before each token.

    A response is an episode, and its valid tokens are the steps. What stands between two of them, as what a tool replied does,
    is passed over, however long it is: the value after a token is that before the next valid one, and the sum over later steps
    goes on there, undiscounted by what was passed over. Nothing follows the last one.

    Args:
      reward: [N, T] of each token; an outcome stands on the last valid one.
      value: [N, T] of what stood before each token.
      mask: [N, T] where a token is the policy's; elsewhere the others may hold anything.
      discount: [] factor per valid token, or one that broadcasts to [N, T].
      trace_decay: [] lambda, or one that broadcasts to [N, T], such as [N, 1] from `length_trace_decay`.

    Returns:
      [N, T] advantages in units of return, 0 where masked; constant. With `value` added they are targets for the critic.

    Source: arXiv 1506.02438, equation 16; passing over as verl's compute_gae_advantage_return does.
    """
    valid = jnp.asarray(mask, bool)
    rewards, values = (jnp.where(valid, jnp.asarray(given), 0.0) for given in (reward, value))
    # At masked places stands what the next valid token has: such a step pays nothing and changes nothing.
    places = jnp.where(valid, jnp.arange(valid.shape[1]), valid.shape[1])
    next_valid = jax.lax.cummin(places, axis=1, reverse=True)
    before = jnp.take_along_axis(jnp.pad(values, ((0, 0), (0, 1))), next_valid, axis=1)
    after = jnp.pad(before[:, 1:], ((0, 0), (0, 1)))
    discounts, decays = (jnp.where(valid, jnp.asarray(factor), 1.0) for factor in (discount, trace_decay))
    found = generalized_advantages(rewards.T, before.T, after.T, 0.0, 0.0, discounts.T, decays.T)
    return jnp.where(valid, found.T, 0.0)


@in_single_precision
def length_trace_decay(length: ArrayLike, scale: ArrayLike = 0.05) -> Array:
    """The lambda whose traces reach over a set share of a response: `1 - 1 / (scale * length)`.

    Its powers add up to `scale * length`, so that a long response is not credited by its last few tokens alone, and a short
    one not by its outcome alone.

    Args:
      length: [...] tokens of each response.
      scale: [] the share, alpha in the paper; above 0.

    Returns:
      [...] at least 0, which it is for responses shorter than `1 / scale`; constant.

    Source: VAPO (arXiv 2504.05118), equation 8, where alpha is 0.05.
    """
    reach = jax.lax.stop_gradient(jnp.asarray(scale) * jnp.maximum(jnp.asarray(length), 1))
    return jnp.maximum(1.0 - 1.0 / reach, 0.0)


@in_single_precision
def lambda_returns(
    reward: ArrayLike,
    next_value: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    discount: ArrayLike = 0.99,
    trace_decay: ArrayLike = 0.95,
) -> Array:
    """What action values should be, from a window of steps: mixed sums of rewards and of the values that followed.

    `G_t = reward_t + discount * (trace_decay * G_{t+1} + (1 - trace_decay) * next_value_t)`; a step that is truncated, and the
    last one of the window, have `reward_t + discount * next_value_t`, and one that terminates its reward alone. For soft
    values the reward is `soft_reward`.

    Args:
      reward: [time, ...].
      next_value: [time, ...] of what followed (an action drawn there), the true last observations of episodes included.
      terminated: [time, ...] 1 or True where the task itself ended.
      truncated: [time, ...] 1 or True where the episode was cut.
      discount: [] factor per step.
      trace_decay: [] lambda: 0 gives one-step targets, 1 the discounted sum of rewards.

    Returns:
      [time, ...] targets in units of return; constant.

    Source: Reinforcement Learning: An Introduction (Sutton and Barto, 2018), equation 12.20, with a value for each step, as in
    Relative Entropy Pathwise Policy Optimization (arXiv 2507.11019).
    """
    following = jnp.asarray(next_value)
    # The value that a step starts from is the one that followed the step before it; that of the first cancels.
    value = jnp.concatenate([jnp.zeros_like(following[:1]), following[:-1]])
    advantages = generalized_advantages(reward, value, following, terminated, truncated, discount, trace_decay)
    return advantages + jax.lax.stop_gradient(value)


@in_single_precision
def soft_reward(
    reward: ArrayLike,
    next_log_prob: ArrayLike,
    terminated: ArrayLike,
    discount: ArrayLike,
    temperature: ArrayLike,
) -> Array:
    """The reward of a step with the entropy of the action after it: `reward - discount * temperature * next_log_prob`.

    Args:
      reward: [...].
      next_log_prob: [...] log pi of an action drawn at what followed, in nats.
      terminated: [...] 1 or True where no action follows.
      discount: [] factor per step.
      temperature: [] weight of the entropy, in return per nat.

    Returns:
      [...] in units of return; constant.

    Source: arXiv 2507.11019, whose released code pays the entropy of an action after termination, too.
    """
    followed = 1.0 - jnp.asarray(terminated, dtype=jnp.result_type(float))
    entropy = -jnp.asarray(temperature) * jnp.asarray(next_log_prob)
    return jax.lax.stop_gradient(jnp.asarray(reward) + jnp.asarray(discount) * followed * entropy)


@in_single_precision
def accumulated_rewards(reward: ArrayLike, done: ArrayLike) -> Array:
    """What each step's episode has paid up to and including it, from where the episode or the window begins.

    As credit for actions in place of what comes after, it is what the released code of the source weights actions with: what
    came before the action adds noise and nothing else, and of what comes after only the step's own reward is left.

    Args:
      reward: [time, ...].
      done: [time, ...] 1 or True where an episode ends with the step, terminated or truncated.

    Returns:
      [time, ...] sums, without gradient.

    Source: the released code of Submodular Reinforcement Learning (arXiv 2307.13372), which differs from its paper.
    """
    rewards = jax.lax.stop_gradient(jnp.asarray(reward))

    def step(before: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        total = before + now[0]
        return total * (1.0 - now[1]), total

    _, totals = jax.lax.scan(step, jnp.zeros_like(rewards[0]), (rewards, jnp.asarray(done, rewards.dtype)))
    return totals


@in_single_precision
def clipped_value_loss(
    value: ArrayLike, old_value: ArrayLike, target: ArrayLike, clip: ArrayLike | None = None
) -> Array:
    """Half the squared error of a value; with a clip the larger one of it and of the value held near the old one.

    Args:
      value: [...] that learns.
      old_value: [...] when the data was collected; held constant.
      target: [...] such as advantage plus old value; held constant.
      clip: [] how far the value may move and still be credited; None for the plain squared error.

    Returns:
      [...] loss per element.

    Source: the reference implementation of arXiv 1707.06347.
    """
    value, old_value, target = jnp.asarray(value), jnp.asarray(old_value), jax.lax.stop_gradient(jnp.asarray(target))
    error = (value - target) ** 2
    if clip is None:
        return 0.5 * error
    old_value = jax.lax.stop_gradient(old_value)
    held = jnp.clip(value, old_value - jnp.asarray(clip), old_value + jnp.asarray(clip))
    return 0.5 * jnp.maximum(error, (held - target) ** 2)
