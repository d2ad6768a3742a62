"""Losses on preferences: of two responses, actions or segments, one is the better.

Source: Direct Preference Optimization (arXiv 2305.18290) and its family, in the forms of TRL's trainer; Contrastive
Preference Learning (arXiv 2310.13639).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def logistic_loss(margin: ArrayLike, target: ArrayLike = 1.0) -> Array:
    """Cross-entropy of `sigmoid(margin)` with the probability that the first of a pair is the better.

    Args:
      margin: [...] how much the first is preferred, in nats.
      target: [...] in [0, 1]; held constant. 1 is DPO's label, 1 - eps that of conservative DPO.

    Returns:
      [...] nats, finite however large the margin.

    Source: Direct Preference Optimization (arXiv 2305.18290), equation 7; soft labels as in conservative DPO.
    """
    margin, target = jnp.asarray(margin), jax.lax.stop_gradient(jnp.asarray(target))
    return target * jax.nn.softplus(-margin) + (1.0 - target) * jax.nn.softplus(margin)
