"""Policies: from an observation to a distribution over actions."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maxent_rl.distributions import TanhGaussian
from maxent_rl.networks.trunk import torch_uniform


class TanhGaussianPolicy(nn.Module):
    """A trunk with a head for mean and log standard deviation; the latter is clipped to given bounds."""

    trunk: nn.Module
    action_size: int

    @nn.compact
    def __call__(self, observation: Array, log_std_min: Array | float, log_std_max: Array | float) -> TanhGaussian:
        """Maps [..., observation] to a distribution over [..., action]."""
        head = nn.Dense(2 * self.action_size, kernel_init=torch_uniform())(self.trunk(observation))
        mean, log_std = jnp.split(head, 2, axis=-1)
        return TanhGaussian(mean=mean, log_std=jnp.clip(log_std, log_std_min, log_std_max))
