"""Policies: from an observation to a distribution over actions."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from maxent_rl.distributions import Categorical, TanhGaussian, TanhGaussianMixture
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


class TanhGaussianMixturePolicy(nn.Module):
    """A trunk with a head for all experts' means and log standard deviations, and a linear router beside it.

    The router reads the trunk's features without a gradient, so that what trains it never moves the experts.
    """

    network: TrunkName
    hidden_sizes: Sequence[int]
    action_size: int
    num_experts: int

    @nn.compact
    def __call__(
        self, observation: Array, log_std_min: Array | float, log_std_max: Array | float
    ) -> TanhGaussianMixture:
        """Maps [..., observation] to a mixture of [..., expert] over [..., action]."""
        features = make_trunk(self.network, self.hidden_sizes)(observation)
        head = nn.Dense(2 * self.num_experts * self.action_size, kernel_init=torch_uniform(), name="head")(features)
        means_and_log_stds = head.reshape(*head.shape[:-1], 2, self.num_experts, self.action_size)
        mean, log_std = means_and_log_stds[..., 0, :, :], means_and_log_stds[..., 1, :, :]
        logits = nn.Dense(self.num_experts, kernel_init=torch_uniform(), name="router")(jax.lax.stop_gradient(features))
        return TanhGaussianMixture(logits, mean, jnp.clip(log_std, log_std_min, log_std_max))


class CategoricalPolicy(nn.Module):
    """A trunk with a head of logits."""

    network: TrunkName
    hidden_sizes: Sequence[int]
    num_actions: int

    @nn.compact
    def __call__(self, observation: Array) -> Categorical:
        """Maps [..., observation] to a distribution over choices."""
        features = make_trunk(self.network, self.hidden_sizes)(observation)
        return Categorical(nn.Dense(self.num_actions, kernel_init=torch_uniform(), name="head")(features))
