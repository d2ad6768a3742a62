"""Policies: from an observation to a distribution over actions."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maxent_rl.distributions import TanhGaussian
from maxent_rl.networks.trunk import TrunkName, make_trunk, torch_uniform


class TanhGaussianPolicy(nn.Module):
    """A trunk with a head for mean and log standard deviation; the latter is clipped to given bounds."""

    network: TrunkName
    hidden_sizes: Sequence[int]
    action_size: int

    @nn.compact
    def __call__(self, observation: Array, log_std_min: Array | float, log_std_max: Array | float) -> TanhGaussian:
        """Maps [..., observation] to a distribution over [..., action]."""
        features = make_trunk(self.network, self.hidden_sizes)(observation)
        head = nn.Dense(2 * self.action_size, kernel_init=torch_uniform(), name="head")(features)
        mean, log_std = jnp.split(head, 2, axis=-1)
        return TanhGaussian(mean=mean, log_std=jnp.clip(log_std, log_std_min, log_std_max))
