"""Losses that move a policy towards higher value."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import held_within, in_single_precision

_LARGEST_LOG_RATIO = 20.0


@in_single_precision
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


@in_single_precision
def policy_gradient_loss(log_prob: ArrayLike, advantage: ArrayLike) -> Array:
    """The score function's loss: its gradient is minus that of the expected return, by actions that the policy itself drew.

    That holds for any return, one that depends on the whole past included, as long as the advantage is what came after the
    action, less a baseline that does not depend on it.

    Args:
      log_prob: [...] log pi(a|history) of the actions taken, in nats.
      advantage: [...] what the action is credited with; held constant.

    Returns:
      [...] loss per action, `-log_prob * advantage`, in units of the advantage times nats.

    Source: Submodular Reinforcement Learning (arXiv 2307.13372), its marginal-gain policy gradient; with additive rewards
    REINFORCE with rewards to go.
    """
    return -jnp.asarray(log_prob) * jax.lax.stop_gradient(jnp.asarray(advantage))


@in_single_precision
def importance_ratio(log_prob: ArrayLike, old_log_prob: ArrayLike) -> Array:
    """How much likelier an action has become since it was drawn: `exp(log_prob - old_log_prob)`.

    Args:
      log_prob: [...] log pi(a|s) under the policy that learns, in nats.
      old_log_prob: [...] the same under the policy that drew the action; held constant.

    Returns:
      [...] ratio; differences beyond +-20 nats are cut off, so that no single action makes it infinite. The gradient there
      is that at the bound: an action that has become e^20 times as likely and is punished for it is still pushed back.

    Source: the bounds are those of verl's PPO actor, which has no gradient beyond them; TRL's does not cut off.
    """
    difference = jnp.asarray(log_prob) - jax.lax.stop_gradient(jnp.asarray(old_log_prob))
    return jnp.exp(held_within(difference, -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO))


@in_single_precision
def clipped_surrogate(
    ratio: ArrayLike,
    advantage: ArrayLike,
    clip_low: ArrayLike = 0.2,
    clip_high: ArrayLike = 0.2,
    dual_clip: ArrayLike | None = None,
) -> Array:
    """PPO's loss: the policy gains nothing by moving a probability further than the clip allows.

    Args:
      ratio: [...] as from `importance_ratio`.
      advantage: [...] how much better the action was than expected; held constant.
      clip_low: [] or [...]: below `1 - clip_low` a falling probability is clipped.
      clip_high: [] or [...]: above `1 + clip_high` a rising one is; larger than `clip_low` it is "clip-higher".
      dual_clip: [] bound of the ratio for negative advantages, larger than 1; None for none.

    Returns:
      [...] loss per element, `max(-A r, -A clip(r))`, in units of the advantage.

    Source: Proximal Policy Optimization Algorithms (arXiv 1707.06347), equation 7; clip-higher: DAPO (arXiv 2503.14476);
    dual clip: arXiv 1912.09729.
    """
    ratio, advantage = jnp.asarray(ratio), jax.lax.stop_gradient(jnp.asarray(advantage))
    clipped = jnp.clip(ratio, 1.0 - jnp.asarray(clip_low), 1.0 + jnp.asarray(clip_high))
    loss = jnp.maximum(-advantage * ratio, -advantage * clipped)
    if dual_clip is None:
        return loss
    return jnp.where(advantage < 0, jnp.minimum(loss, -advantage * jnp.asarray(dual_clip)), loss)


@in_single_precision
def clipped_away(
    ratio: ArrayLike, advantage: ArrayLike, clip_low: ArrayLike = 0.2, clip_high: ArrayLike = 0.2
) -> Array:
    """Where `clipped_surrogate` has cut the gradient: -1 at the lower bound, 1 at the upper one, 0 elsewhere.

    Args:
      ratio: [...] as from `importance_ratio`.
      advantage: [...].
      clip_low: [] or [...]: as for `clipped_surrogate`.
      clip_high: [] or [...].

    Returns:
      [...] int32; the share that is not 0 is the clip fraction.
    """
    ratio, advantage = jnp.asarray(ratio), jnp.asarray(advantage)
    low = (ratio < 1.0 - jnp.asarray(clip_low)) & (advantage < 0)
    high = (ratio > 1.0 + jnp.asarray(clip_high)) & (advantage > 0)
    return high.astype(jnp.int32) - low.astype(jnp.int32)
