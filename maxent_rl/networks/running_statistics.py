"""Running mean and variance of observations, as a pytree.

Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jax import Array

_SMALLEST_VARIANCE = 1e-6
_LARGEST_SCORE = 10.0


@struct.dataclass
class RunningStatistics:
    """Moments of everything seen so far.

    Attributes:
      count: [] number of rows seen (float32).
      mean: [observation] their mean.
      variance: [observation] their population variance.
    """

    count: Array
    mean: Array
    variance: Array

    @classmethod
    def create(cls, size: int) -> RunningStatistics:
        """Nothing seen yet: normalising changes nothing but the clip."""
        return cls(count=jnp.zeros(()), mean=jnp.zeros(size), variance=jnp.ones(size))

    def add(self, rows: Array) -> RunningStatistics:
        """Takes in rows [batch, observation]."""
        batch_count = rows.shape[0]
        batch_mean = jnp.mean(rows, axis=0)
        total = self.count + batch_count
        share = batch_count / total
        delta = batch_mean - self.mean
        spread = share * jnp.var(rows, axis=0) + (1 - share) * self.variance + share * (1 - share) * delta**2
        return RunningStatistics(count=total, mean=self.mean + share * delta, variance=spread)

    def normalize(self, observation: Array) -> Array:
        """Maps [..., observation] to scores of mean 0 and variance 1, clipped to +-10."""
        scale = jnp.sqrt(jnp.maximum(self.variance, _SMALLEST_VARIANCE))
        return jnp.clip((observation - self.mean) / scale, -_LARGEST_SCORE, _LARGEST_SCORE)
