"""A squashed Gaussian whose standard deviation has a floor, so that a policy that is sure still looks around.

Source: the released code of Relative Entropy Pathwise Policy Optimization (arXiv 2507.11019).
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maxent_rl.distributions import TanhGaussian
from maxent_rl.networks.predictive_critic import rms_layers


class FlooredGaussianPolicy(nn.Module):
    """Normalised layers with a head for mean and standard deviation `exp(head) + least`."""

    hidden_sizes: Sequence[int]
    action_size: int

    @nn.compact
    def __call__(self, observation: Array, least: Array | float) -> TanhGaussian:
        """Maps [..., observation] to a distribution over [..., action]; `least` [] is the floor, before squashing."""
        features = rms_layers(self.hidden_sizes, "layers")(observation)
        mean, log_std = jnp.split(nn.Dense(2 * self.action_size, name="head")(features), 2, axis=-1)
        return TanhGaussian(mean, jnp.logaddexp(log_std, jnp.log(least)))
