"""Trust regions by how far a token's probability moved, not by its ratio.

A ratio says much of rare tokens and little of likely ones: from 0.9 to 0.99 is a ratio of 1.1, from 1e-4 to 2e-4 one of 2.

Source: DPPO (arXiv 2602.04879), the binary divergences (the token against all others) in verl's form; the bounds' defaults
are verl's `clip_ratio`.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl.settings import Positive, Weight, static
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Surrogate
from maxent_rl.types import PyTree

_LEAST = 1e-8  # of the probability of all other tokens


@struct.dataclass
class DivergenceMask(Surrogate):
    """`-sg(min(r, most)) A log pi` of tokens that are not yet too far in the direction in which they are pushed."""

    dppo_low: Weight = 0.2
    """How far a falling probability may be: a difference of probabilities (tv), or nats (kl)."""
    dppo_high: Weight = 0.2
    """How far a rising one may be."""
    dppo_ratio: Positive = 20.0
    """The ratio, as a weight, is at most this."""
    dppo_divergence: Literal["tv", "kl"] = static("tv")
    """Total variation or Kullback-Leibler divergence of the token against all others."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T] and which tokens have lost their gradient."""
        new, old = (jax.lax.stop_gradient(logp) for logp in (work.outputs.logp, work.batch.logp_old))
        if self.dppo_divergence == "tv":
            far_up = jnp.exp(new) - jnp.exp(old) > self.dppo_high
            far_down = jnp.exp(old) - jnp.exp(new) > self.dppo_low
        else:
            divergence = binary_divergence(old, new)
            far_up, far_down = (divergence > self.dppo_high) & (new > old), (divergence > self.dppo_low) & (new < old)
        clipped = jnp.where(work.advantages > 0, far_up.astype(jnp.int32), -far_down.astype(jnp.int32))
        weight = jax.lax.stop_gradient(jnp.minimum(work.ratio, self.dppo_ratio)) * (clipped == 0)
        return state, work.replace(loss=-weight * work.advantages * work.outputs.logp, clipped=clipped)


def binary_divergence(old: Array, new: Array) -> Array:
    """KL(old || new) of a token against all others: log-probabilities [...] in nats to [...] nats, at least 0.

    Source: arXiv 2602.04879.
    """
    others_old, others_new = (jnp.maximum(-jnp.expm1(jnp.minimum(logp, 0.0)), _LEAST) for logp in (old, new))
    found = jnp.exp(old) * (old - new) + others_old * (jnp.log(others_old) - jnp.log(others_new))
    return jnp.maximum(found, 0.0)


PRESETS: dict[str, Preset] = {
    f"dppo_{divergence}": Preset(
        f"tokens lose their gradient once their probability has moved too far, by {words}",
        "DPPO, arXiv 2602.04879",
        (GroupAdvantage(), DivergenceMask(dppo_divergence=divergence), Aggregate()),  # type: ignore[arg-type]
    )
    for divergence, words in (("tv", "total variation"), ("kl", "Kullback-Leibler divergence"))
}
