"""What is measured of every objective's step: clipping, entropy, divergences, ratios, advantages, lengths."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from maxent_rl import losses
from maxent_rl.tokens.batch import responses
from maxent_rl.tokens.objectives.stage import Work
from maxent_rl.types import Metrics


def step_metrics(work: Work) -> Metrics:
    """The metrics of one step: scalars over the valid tokens, in nats where they are entropies or divergences.

    "response/unscored" is the share of responses without a finite reward, "response/unscored_tokens" that of tokens that
    were left out, as their log-probability is not finite.
    """
    mask, batch, logp = work.mask, work.batch, work.outputs.logp

    def mean(values: Array) -> Array:
        return losses.masked_mean(values, mask)

    def extreme(values: Array, largest: bool) -> Array:
        most = jnp.max(values if largest else -values, initial=-jnp.inf, where=mask)
        return jnp.where(jnp.any(mask), most if largest else -most, 0.0)

    advantage = mean(work.advantages)
    left_out = jnp.zeros(()) if batch.unscored is None else jnp.sum(batch.unscored)
    metrics = {
        "policy/loss": work.total,
        "policy/clip_fraction_low": mean((work.clipped < 0).astype(jnp.float32)),
        "policy/clip_fraction_high": mean((work.clipped > 0).astype(jnp.float32)),
        "policy/ratio_min": extreme(work.ratio, largest=False),
        "policy/ratio_max": extreme(work.ratio, largest=True),
        "policy/kl_k1": mean(losses.kl_estimate(batch.logp_old, logp, "k1")),
        "policy/kl_k3": mean(losses.kl_estimate(batch.logp_old, logp, "k3")),
        "advantage/mean": advantage,
        "advantage/std": jnp.sqrt(mean((work.advantages - advantage) ** 2)),
        "advantage/min": extreme(work.advantages, largest=False),
        "advantage/max": extreme(work.advantages, largest=True),
        "response/length": jnp.sum(mask) / jnp.maximum(jnp.sum(jnp.any(mask, axis=-1)), 1),
        "response/unscored": losses.masked_mean(~batch.scored, responses(batch)),
        "response/unscored_tokens": left_out / jnp.maximum(jnp.sum(mask) + left_out, 1),
    }
    if batch.logp_ref is not None:
        known = mask & jnp.isfinite(batch.logp_ref)
        metrics["reference/kl_k3"] = losses.masked_mean(losses.kl_estimate(logp, batch.logp_ref, "k3"), known)
    if work.outputs.entropy is not None:
        entropy = work.outputs.entropy
        metrics["entropy/mean"] = mean(entropy)
        for percent in (10, 50, 90):
            metrics[f"entropy/p{percent}"] = losses.masked_quantile(entropy, mask, percent / 100)
    return metrics
