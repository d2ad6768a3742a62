"""The conservative penalty where actions are continuous and the soft maximum over them is estimated from samples.

Source: Conservative Q-Learning for Offline Reinforcement Learning (arXiv 2006.04779), equation 4 (CQL(H)) and appendix F.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision


@in_single_precision
def sampled_soft_maximum(q: ArrayLike, log_density: ArrayLike) -> Array:
    """The logarithm of the integral of exp(q) over all actions, by importance sampling.

    `log(mean_i(exp(q_i) / density_i))`. The authors' code leaves out the division by the number of samples, a constant.

    Args:
      q: [samples, ...] values of sampled actions.
      log_density: [samples, ...] or broadcastable; log of the density that each was drawn from, in nats; held constant.

    Returns:
      [...] in units of return. For values that are the same everywhere it is that value plus the log of the box's volume.

    Source: arXiv 2006.04779, appendix F.
    """
    weighted = jnp.asarray(q) - jax.lax.stop_gradient(jnp.asarray(log_density))
    return jax.scipy.special.logsumexp(weighted, axis=0) - math.log(weighted.shape[0])


@in_single_precision
def sampled_conservative_gap(q: ArrayLike, log_density: ArrayLike, data_q: ArrayLike) -> Array:
    """How far the soft maximum over all actions stands above the data's action: what CQL pushes down.

    Args:
      q: [samples, ...] values of sampled actions.
      log_density: [samples, ...] or broadcastable; of each, in nats; held constant.
      data_q: [...] values of the data's actions.

    Returns:
      [...] in units of return.

    Source: arXiv 2006.04779, equation 4, the factor of alpha.
    """
    return sampled_soft_maximum(q, log_density) - jnp.asarray(data_q)
