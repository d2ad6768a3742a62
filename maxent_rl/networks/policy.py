"""Policies: from an observation to a distribution over actions."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from maxent_rl.distributions import Categorical, TanhGaussian, TanhGaussianMixture
from maxent_rl.networks.trunk import TrunkPlan, make_head, make_trunk, torch_uniform


class TanhGaussianPolicy(nn.Module):
    """A trunk with a head for mean and log standard deviation; the latter is brought within given bounds.

    Attributes:
      trunk: before the head.
      action_size: entries of an action.
      squash: bring it there by tanh, not by clipping, which leaves no gradient beyond the bounds.
    """

    trunk: TrunkPlan
    action_size: int
    squash: bool = False

    @nn.compact
    def __call__(
        self, observation: Array, log_std_min: Array | float, log_std_max: Array | float, train: bool = False
    ) -> TanhGaussian:
        """Maps [..., observation] to a distribution over [..., action]."""
        features = make_trunk(self.trunk)(observation, train)
        head = make_head(self.trunk, 2 * self.action_size, "head")(features)
        mean, log_std = jnp.split(head, 2, axis=-1)
        return TanhGaussian(mean=mean, log_std=_bounded(log_std, log_std_min, log_std_max, self.squash))


class TanhGaussianMixturePolicy(nn.Module):
    """A trunk with a head for all experts' means and log standard deviations, and a linear router beside it.

    The router reads the trunk's features without a gradient, so that what trains it never moves the experts.
    """

    trunk: TrunkPlan
    action_size: int
    num_experts: int
    squash: bool = False

    @nn.compact
    def __call__(
        self, observation: Array, log_std_min: Array | float, log_std_max: Array | float, train: bool = False
    ) -> TanhGaussianMixture:
        """Maps [..., observation] to a mixture of [..., expert] over [..., action]."""
        features = make_trunk(self.trunk)(observation, train)
        head = nn.Dense(2 * self.num_experts * self.action_size, kernel_init=torch_uniform(), name="head")(features)
        means_and_log_stds = head.reshape(*head.shape[:-1], 2, self.num_experts, self.action_size)
        mean, log_std = means_and_log_stds[..., 0, :, :], means_and_log_stds[..., 1, :, :]
        logits = nn.Dense(self.num_experts, kernel_init=torch_uniform(), name="router")(jax.lax.stop_gradient(features))
        return TanhGaussianMixture(logits, mean, _bounded(log_std, log_std_min, log_std_max, self.squash))


class CategoricalPolicy(nn.Module):
    """A trunk with a head of logits."""

    trunk: TrunkPlan
    num_actions: int

    @nn.compact
    def __call__(self, observation: Array, train: bool = False) -> Categorical:
        """Maps [..., observation] to a distribution over choices."""
        features = make_trunk(self.trunk)(observation, train)
        return Categorical(make_head(self.trunk, self.num_actions, "head")(features))


def _bounded(log_std: Array, low: Array | float, high: Array | float, squash: bool) -> Array:
    """Log standard deviations [...] within bounds."""
    return low + 0.5 * (high - low) * (1.0 + jnp.tanh(log_std)) if squash else jnp.clip(log_std, low, high)
