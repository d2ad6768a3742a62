"""A diagonal Gaussian squashed by tanh into the box (-1, 1)^A: the policy of SAC.

Source: Soft Actor-Critic Algorithms and Applications (arXiv 1812.05905), appendix C; the Jacobian in its stable form.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl.distributions.gaussian import Gaussian

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_LOG_TWO = math.log(2.0)
_LARGEST_ACTION = 1.0 - 1e-6


def log_abs_det_tanh(pre_tanh: Array) -> Array:
    """`log(1 - tanh(u)^2)` as `2 * (log 2 - u - softplus(-2u))`: exact and finite where the naive form gives -inf.

    Args:
      pre_tanh: [...] u.

    Returns:
      [...] elementwise logarithm of tanh's derivative.
    """
    return 2.0 * (_LOG_TWO - pre_tanh - jax.nn.softplus(-2.0 * pre_tanh))


def arctanh_clipped(action: Array) -> Array:
    """The inverse of tanh, [...] to [...], for actions clipped to 1e-6 from the edge, where it has none."""
    return jnp.arctanh(jnp.clip(action, -_LARGEST_ACTION, _LARGEST_ACTION))


@struct.dataclass
class TanhGaussian:
    """tanh(u) with u ~ Normal(mean, exp(log_std)), independent along the last axis.

    Attributes:
      mean: [..., action] of the Gaussian before squashing.
      log_std: [..., action] natural logarithm of its standard deviation.
    """

    mean: Array
    log_std: Array

    def sample(self, key: Array) -> Array:
        """Draws a reparameterised sample: [..., action] in (-1, 1)."""
        return jnp.tanh(self.pre_tanh(self._noise(key)))

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        """Draws a sample and scores it without ever inverting tanh.

        Args:
          key: [] random key; the same key gives the same sample as `sample`.

        Returns:
          (action [..., action], log_prob [...] in nats).
        """
        return self.from_noise(self._noise(key))

    def pre_tanh(self, noise: Array) -> Array:
        """The sample before squashing, [..., action], with the standard normal noise [..., action] given."""
        return self.mean + jnp.exp(self.log_std) * noise

    def from_noise(self, noise: Array) -> tuple[Array, Array]:
        """As `sample_and_log_prob`, with the standard normal noise [..., action] given."""
        pre_tanh = self.pre_tanh(noise)
        log_prob = -0.5 * noise**2 - self.log_std - _HALF_LOG_TWO_PI - log_abs_det_tanh(pre_tanh)
        return jnp.tanh(pre_tanh), jnp.sum(log_prob, axis=-1)

    def log_prob(self, action: Array) -> Array:
        """Density of a given action.

        Args:
          action: [..., action]; values closer to the box's edge than 1e-6 are clipped, as tanh cannot be inverted there.

        Returns:
          [...] log-density in the squashed space, in nats.
        """
        return self.log_prob_pre_tanh(arctanh_clipped(action))

    def log_prob_pre_tanh(self, pre_tanh: Array) -> Array:
        """Density of `tanh(pre_tanh)`, exact however large `pre_tanh` is.

        Args:
          pre_tanh: [..., action] u.

        Returns:
          [...] log-density in the squashed space, in nats.
        """
        noise = (pre_tanh - self.mean) * jnp.exp(-self.log_std)
        log_prob = -0.5 * noise**2 - self.log_std - _HALF_LOG_TWO_PI - log_abs_det_tanh(pre_tanh)
        return jnp.sum(log_prob, axis=-1)

    def entropy(self, key: Array) -> Array:
        """One-sample estimate of the entropy, [...] in nats; there is no closed form. At most `action * log 2`."""
        return -self.sample_and_log_prob(key)[1]

    def divergence(self, other: TanhGaussian) -> Array:
        """Exact KL(self || other), [...] in nats: that of the Gaussians, as both are squashed alike."""
        return Gaussian(self.mean, self.log_std).divergence(Gaussian(other.mean, other.log_std))

    def mode(self) -> Array:
        """`tanh(mean)`, [..., action]: what SAC's evaluation uses (the median, and the mode before squashing)."""
        return jnp.tanh(self.mean)

    def _noise(self, key: Array) -> Array:
        return jax.random.normal(key, self.mean.shape, self.mean.dtype)
