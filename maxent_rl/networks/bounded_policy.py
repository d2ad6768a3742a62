"""Policies whose centre lies within the box of actions: deterministic ones, and Gaussians about such a centre."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maxent_rl.distributions import Gaussian
from maxent_rl.networks.trunk import TrunkPlan, make_trunk, torch_uniform


class DeterministicPolicy(nn.Module):
    """A trunk with a head squashed by tanh: one action for each observation."""

    trunk: TrunkPlan
    action_size: int

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        """Maps [..., observation] to [..., action] in (-1, 1)."""
        features = make_trunk(self.trunk)(observation)
        return jnp.tanh(nn.Dense(self.action_size, kernel_init=torch_uniform(), name="head")(features))


class BoundedMeanGaussianPolicy(nn.Module):
    """A Gaussian whose mean is squashed by tanh, and whose log standard deviations are the same for all observations.

    What is drawn can lie outside the box; its density is finite at the box's edge, where that of a squashed Gaussian is not.
    """

    trunk: TrunkPlan
    action_size: int

    @nn.compact
    def __call__(self, observation: Array, log_std_min: Array | float, log_std_max: Array | float) -> Gaussian:
        """Maps [..., observation] to a distribution over [..., action]."""
        mean = DeterministicPolicy(self.trunk, self.action_size, name="mean")(observation)
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_size,))
        return Gaussian(mean, jnp.broadcast_to(jnp.clip(log_std, log_std_min, log_std_max), mean.shape))
