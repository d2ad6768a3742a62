"""A diagonal Gaussian over unbounded actions: the policy of PPO for continuous actions."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


@struct.dataclass
class Gaussian:
    """Normal(mean, exp(log_std)), independent along the last axis.

    Attributes:
      mean: [..., action].
      log_std: [..., action] natural logarithm of the standard deviation.
    """

    mean: Array
    log_std: Array

    def sample(self, key: Array) -> Array:
        """Draws a reparameterised sample: [..., action]."""
        return self.from_noise(self._noise(key))[0]

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        """Draws a sample [..., action] and its log-density [...] in nats."""
        return self.from_noise(self._noise(key))

    def from_noise(self, noise: Array) -> tuple[Array, Array]:
        """As `sample_and_log_prob`, with the standard normal noise [..., action] given."""
        log_prob = jnp.sum(-0.5 * noise**2 - self.log_std - _HALF_LOG_TWO_PI, axis=-1)
        return self.mean + jnp.exp(self.log_std) * noise, log_prob

    def log_prob(self, action: Array) -> Array:
        """Log-density [...] of given actions [..., action], in nats."""
        noise = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * noise**2 - self.log_std - _HALF_LOG_TWO_PI, axis=-1)

    def entropy(self, key: Array | None = None) -> Array:
        """Exact entropy, [...] in nats; the key is not used."""
        return jnp.sum(self.log_std + 0.5 + _HALF_LOG_TWO_PI, axis=-1)

    def divergence(self, other: Gaussian) -> Array:
        """Exact KL(self || other), [...] in nats."""
        variance, distance = jnp.exp(2.0 * (self.log_std - other.log_std)), self.mean - other.mean
        scaled = (distance * jnp.exp(-other.log_std)) ** 2
        return jnp.sum(other.log_std - self.log_std + 0.5 * (variance + scaled - 1.0), axis=-1)

    def mode(self) -> Array:
        """The mean, [..., action]."""
        return self.mean

    def _noise(self, key: Array) -> Array:
        return jax.random.normal(key, self.mean.shape, self.mean.dtype)
