"""What agents whose policy has several experts share: how the experts begin, and metrics of what the router does."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from maxent_rl.distributions import GaussianMixture, TanhGaussianMixture
from maxent_rl.types import Array, Metrics

COLLAPSED = 0.99  # share of the router's weight from which one expert counts as the only one


def router_metrics(mixture: GaussianMixture | TanhGaussianMixture) -> Metrics:
    """What the router does over a batch [...]: its weights, their entropy in nats, and how far apart the experts are.

    `router/collapsed` is 1 where one expert holds over 99 % of the weight.
    """
    usage = jnp.mean(jax.nn.softmax(mixture.logits), axis=tuple(range(mixture.logits.ndim - 1)))
    gaps = mixture.mean[..., :, None, :] - mixture.mean[..., None, :, :]
    pairs = usage.shape[-1] * (usage.shape[-1] - 1)
    metrics = {f"router/usage_{index}": share for index, share in enumerate(usage)}
    return metrics | {
        "router/entropy": jnp.mean(mixture.router.entropy()),
        "router/collapsed": (jnp.max(usage) > COLLAPSED).astype(jnp.float32),
        "router/mean_distance": jnp.mean(jnp.sum(jnp.linalg.norm(gaps, axis=-1), axis=(-2, -1))) / pairs,
    }


def best_metrics(q: Array) -> Metrics:
    """`router/best_k`: the share of a batch in which expert k's action has the highest value [..., expert]."""
    best = jnp.argmax(q.reshape(-1, q.shape[-1]), axis=-1)
    shares = jnp.mean(jax.nn.one_hot(best, q.shape[-1]), axis=0)
    return {f"router/best_{index}": share for index, share in enumerate(shares)}


def directions(key: Array, count: int, size: int) -> Array:
    """[count, size] unit vectors far apart: the axes of a random rotation and their opposites, of as many as are needed."""
    axes = [
        jnp.linalg.qr(jax.random.normal(key, (size, size)))[0] for key in jax.random.split(key, -(-count // (2 * size)))
    ]
    return jnp.concatenate([side for turned in axes for side in (turned, -turned)])[:count]
