"""The networks of policy-gradient agents: plain layers, initialised orthogonally, with small first actions.

Source: The 37 Implementation Details of Proximal Policy Optimization (ICLR Blog Track 2022), details 2 and 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maxent_rl.distributions import Categorical, Gaussian, GaussianMixture, MultiCategorical, TanhGaussian
from maxent_rl.networks.critic import joined
from maxent_rl.networks.initializers import orthogonal
from maxent_rl.networks.trunk import MLP, Activation

_LOG_STD_MIN, _LOG_STD_MAX = -5.0, 2.0


def orthogonal_trunk(hidden_sizes: Sequence[int], activation: Activation) -> MLP:
    """Hidden layers with orthogonal weights of gain sqrt(2)."""
    return MLP(tuple(hidden_sizes), activation=activation, kernel_init=orthogonal(math.sqrt(2.0)))


def orthogonal_head(size: int, gain: float, name: str) -> nn.Dense:
    """A last layer: a gain of 0.01 makes the first policy nearly the same for all observations."""
    return nn.Dense(size, kernel_init=orthogonal(gain), name=name)


class GaussianPolicy(nn.Module):
    """A diagonal Gaussian, squashed by tanh or not.

    Its log standard deviations are parameters of their own, 0 at the start, or a second head of the observation, which
    is clipped to [-5, 2].
    """

    hidden_sizes: Sequence[int]
    activation: Activation
    action_size: int
    squashed: bool = False
    state_dependent_std: bool = False

    @nn.compact
    def __call__(self, observation: Array) -> Gaussian | TanhGaussian:
        """Maps [..., observation] to a distribution over [..., action]."""
        features = orthogonal_trunk(self.hidden_sizes, self.activation)(observation)
        mean = orthogonal_head(self.action_size, 0.01, "head")(features)
        if self.state_dependent_std:
            log_std = orthogonal_head(self.action_size, 0.01, "log_std")(features)
            log_std = jnp.clip(log_std, _LOG_STD_MIN, _LOG_STD_MAX)
        else:
            log_std = self.param("log_std", nn.initializers.zeros, (self.action_size,))
            log_std = jnp.broadcast_to(log_std, mean.shape)
        return TanhGaussian(mean, log_std) if self.squashed else Gaussian(mean, log_std)


class GaussianMixturePolicy(nn.Module):
    """A mixture of Gaussians: heads for all experts' means and for the router's logits on one trunk.

    Each expert has log standard deviations of its own, which are parameters, 0 at the start.
    """

    hidden_sizes: Sequence[int]
    activation: Activation
    action_size: int
    num_experts: int

    @nn.compact
    def __call__(self, observation: Array) -> GaussianMixture:
        """Maps [..., observation] to a mixture of [..., expert] over [..., action]."""
        features = orthogonal_trunk(self.hidden_sizes, self.activation)(observation)
        head = orthogonal_head(self.num_experts * self.action_size, 0.01, "head")(features)
        mean = head.reshape(*head.shape[:-1], self.num_experts, self.action_size)
        log_std = self.param("log_std", nn.initializers.zeros, mean.shape[-2:])
        logits = orthogonal_head(self.num_experts, 0.01, "router")(features)
        return GaussianMixture(logits, mean, jnp.broadcast_to(log_std, mean.shape))


class OrthogonalCategoricalPolicy(nn.Module):
    """Probabilities of finitely many actions."""

    hidden_sizes: Sequence[int]
    activation: Activation
    num_actions: int

    @nn.compact
    def __call__(self, observation: Array) -> Categorical:
        """Maps [..., observation] to a distribution over actions [...]."""
        features = orthogonal_trunk(self.hidden_sizes, self.activation)(observation)
        return Categorical(orthogonal_head(self.num_actions, 0.01, "head")(features))


class OrthogonalMultiCategoricalPolicy(nn.Module):
    """Probabilities of several choices made at once, with a head for each."""

    hidden_sizes: Sequence[int]
    activation: Activation
    sizes: Sequence[int]

    @nn.compact
    def __call__(self, observation: Array) -> MultiCategorical:
        """Maps [..., observation] to a distribution over actions [..., entry]."""
        features = orthogonal_trunk(self.hidden_sizes, self.activation)(observation)
        heads = [orthogonal_head(size, 0.01, f"head_{index}") for index, size in enumerate(self.sizes)]
        return MultiCategorical(tuple(Categorical(head(features)) for head in heads))


class ValueFunction(nn.Module):
    """The value of observations, or of actions at observations."""

    hidden_sizes: Sequence[int]
    activation: Activation

    @nn.compact
    def __call__(self, observation: Array, action: Array | None = None) -> Array:
        """Maps [..., observation], and [..., action] as a `Critic` takes them, to a value [...]."""
        inputs = observation if action is None else joined(observation, action)
        features = orthogonal_trunk(self.hidden_sizes, self.activation)(inputs)
        value: Array = orthogonal_head(1, 1.0, "head")(features)[..., 0]
        return value
