"""How well one score ranks what another values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision


@in_single_precision
def normalized_discounted_gain(relevance: ArrayLike, score: ArrayLike) -> Array:
    """NDCG: the gain of a ranking, later places discounted, over that of the best ranking.

    `sum_i relevance_i / log2(place_i + 1)` with places from 1, by falling score.

    Args:
      relevance: [..., P] not negative.
      score: [..., P] by which candidates are ranked; equal ones keep their order.

    Returns:
      [...] in [0, 1], without gradient; 1 where nothing is relevant.

    Source: ADPO: Anchored Direct Preference Optimization (arXiv 2510.18913), which measures distillation by it.
    """
    relevance, score = (jax.lax.stop_gradient(jnp.asarray(values)) for values in (relevance, score))
    discount = 1.0 / jnp.log2(jnp.arange(relevance.shape[-1]) + 2.0)
    order = jnp.argsort(-score, axis=-1, stable=True)
    gain = jnp.sum(jnp.take_along_axis(relevance, order, axis=-1) * discount, axis=-1)
    best = jnp.sum(-jnp.sort(-relevance, axis=-1) * discount, axis=-1)
    return jnp.where(best > 0, gain / jnp.where(best > 0, best, 1.0), 1.0)
