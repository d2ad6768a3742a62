"""Normalisation by the statistics of a batch, with running ones for single inputs.

Source: Batch Renormalization (arXiv 1702.03275), with the settings of CrossQ (arXiv 1902.05605, later version).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

PyTree: TypeAlias = Any

STATISTICS = "batch_stats"
"""The collection of a network's variables that holds running statistics: state, but nothing that a gradient moves."""

_LARGEST_RATIO, _LARGEST_SHIFT = 3.0, 5.0


class BatchNorm(nn.Module):
    """Scales each feature to mean 0 and variance 1 over a batch, then by a learned scale and bias.

    The running mean and variance, in the collection `STATISTICS`, are those by which it scales outside training. They move
    where that collection is mutable, so that a second pass over the same batch changes nothing.

    Attributes:
      momentum: share of the running statistics that stays with each batch.
      epsilon: added to variances.
      renormalize: correct the batch's statistics towards the running ones after `warmup` batches, within bounds, so that
        training and evaluation agree.
      warmup: batches before that.
    """

    momentum: float = 0.99
    epsilon: float = 1e-3
    renormalize: bool = False
    warmup: int = 100_000

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> Array:
        """Maps [..., feature] to the same shape; statistics are those of all leading axes together."""
        shape = inputs.shape[-1:]
        running_mean = self.variable(STATISTICS, "mean", jnp.zeros, shape)
        running_variance = self.variable(STATISTICS, "var", jnp.ones, shape)
        steps = self.variable(STATISTICS, "steps", jnp.zeros, (), jnp.int32)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        if not train:
            return _scaled(inputs, running_mean.value, running_variance.value, scale, bias, self.epsilon)
        axes = tuple(range(inputs.ndim - 1))
        # By the mean of squares one pass over the batch would do, but float32 loses the variance where the mean is large.
        mean = jnp.mean(inputs, axis=axes)
        variance = jnp.mean((inputs - mean) ** 2, axis=axes)
        if self.renormalize:
            spread, running_spread = jnp.sqrt(variance + self.epsilon), jnp.sqrt(running_variance.value + self.epsilon)
            ratio = jnp.clip(spread / running_spread, 1.0 / _LARGEST_RATIO, _LARGEST_RATIO)
            shift = jnp.clip((mean - running_mean.value) / running_spread, -_LARGEST_SHIFT, _LARGEST_SHIFT)
            is_warm = steps.value >= self.warmup
            ratio = jax.lax.stop_gradient(jnp.where(is_warm, ratio, 1.0))
            shift = jax.lax.stop_gradient(jnp.where(is_warm, shift, 0.0))
            bias, scale = bias + scale * shift, scale * ratio
        if self.is_mutable_collection(STATISTICS) and not self.is_initializing():
            kept = self.momentum
            running_mean.value = kept * running_mean.value + (1.0 - kept) * mean
            running_variance.value = kept * running_variance.value + (1.0 - kept) * variance
            steps.value = steps.value + 1
        return _scaled(inputs, mean, variance, scale, bias, self.epsilon)


def _scaled(inputs: Array, mean: Array, variance: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    # One multiplication and one addition for each input: the rest is of the size of a row.
    factor = scale * jax.lax.rsqrt(variance + epsilon)
    return inputs * factor + (bias - mean * factor)


def without_statistics(variables: PyTree) -> PyTree:
    """What of a network's variables a gradient moves; the very same where there are no statistics."""
    return (
        {name: part for name, part in variables.items() if name != STATISTICS} if STATISTICS in variables else variables
    )


def with_statistics(learned: PyTree, variables: PyTree) -> PyTree:
    """What a gradient moves, with the statistics that other variables of the network have, if they have any."""
    return {**learned, STATISTICS: variables[STATISTICS]} if STATISTICS in variables else learned


def statistics_of(variables: PyTree) -> PyTree:
    """The statistics alone, by the name of their collection; nothing where there are none."""
    return {STATISTICS: variables[STATISTICS]} if STATISTICS in variables else {}
