"""The losses of the token benchmark by name; the one place that says where they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from maxent_rl.losses import clipped_surrogate, importance_ratio


class Rollout(NamedTuple):
    """What a loss reads beside the statistics of its tokens; `logp_old` and `mask` [N, T], `rewards` [N] in groups."""

    logp_old: Array
    mask: Array
    rewards: Array
    group_size: int


Loss = Callable[[Array, Rollout, Array], Array]
"""Takes logp [N, T], a rollout and a random key, and gives the loss []."""


def loss_of(name: str) -> Loss:
    """The loss called `name`: "grpo" or "clip_cov"."""
    return {"grpo": _grpo, "clip_cov": _clip_cov}[name]


def _advantages(rollout: Rollout) -> Array:
    groups = rollout.rewards.reshape(-1, rollout.group_size)
    surplus = groups - groups.mean(1, keepdims=True)
    advantages = surplus / (groups.std(1, ddof=1, keepdims=True) + 1e-6)
    return jnp.broadcast_to(advantages.reshape(-1, 1), rollout.mask.shape)


def _grpo(logp: Array, rollout: Rollout, key: Array) -> Array:
    loss = clipped_surrogate(importance_ratio(logp, rollout.logp_old), _advantages(rollout))
    return jnp.sum(loss * rollout.mask) / jnp.sum(rollout.mask)


def _clip_cov(logp: Array, rollout: Rollout, key: Array) -> Array:
    """The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models (arXiv 2505.22617), Clip-Cov."""
    advantages, ratio, mask = _advantages(rollout), importance_ratio(logp, rollout.logp_old), rollout.mask
    loss, count = clipped_surrogate(ratio, advantages, 1.0, 1.0), jnp.sum(mask)
    centred = [each - jnp.sum(each * mask) / count for each in (advantages, jax.lax.stop_gradient(logp))]
    covariance = centred[0] * centred[1]
    eligible = (mask > 0) & (loss <= -advantages * ratio) & (covariance > 1.0) & (covariance < 5.0)
    draw = jnp.where(eligible, jax.random.uniform(key, mask.shape), 2.0)
    rank = jnp.argsort(jnp.argsort(draw.ravel())).reshape(mask.shape)
    chosen = eligible & (rank < jnp.maximum(jnp.floor(2e-4 * count), 1))
    return jnp.sum(jnp.where(chosen, 0.0, loss) * mask) / count
