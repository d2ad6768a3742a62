"""SimbaV2's network: features and weights of length 1, blocks that interpolate between directions, learned scales.

The weights stay on their spheres by `project(parameters, "columns")` after each step of the optimiser; they begin there.

Source: Hyperspherical Normalization for Scalable Deep Reinforcement Learning (arXiv 2502.15280).
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from maxent_rl.networks.initializers import unit_orthogonal

_SMALLEST_SQUARE = 1e-16  # what is shorter than 1e-8 counts as that long
_WIDENING = 4


def unit_length(vectors: Array) -> Array:
    """Vectors [..., feature] with length 1; zeros stay zeros."""
    squares = jnp.sum(vectors**2, axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squares, _SMALLEST_SQUARE))


class Scaler(nn.Module):
    """A learned factor for each feature.

    Attributes:
      start: what the factor is at first.
      scale: what the parameter is at first: the factor moves start / scale times as fast as the optimiser moves it.
    """

    start: float
    scale: float

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Maps [..., feature] to the same shape."""
        scaler = self.param("scaler", nn.initializers.constant(self.scale), features.shape[-1:])
        return scaler * (self.start / self.scale) * features


class HypersphericalEmbedder(nn.Module):
    """Inputs onto the sphere, with a constant appended: else their length, which scaling takes away, would be lost."""

    width: int
    shift: float = 3.0

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps [..., input] to [..., width] of length 1."""
        constant = jnp.full((*inputs.shape[:-1], 1), self.shift, inputs.dtype)
        directions = unit_length(jnp.concatenate([inputs, constant], axis=-1))
        scale = math.sqrt(2.0 / self.width)
        return unit_length(Scaler(scale, scale)(_linear(self.width)(directions)))


class HypersphericalBlock(nn.Module):
    """A step on the sphere, for each feature a learned share of the way towards what two layers make of the features."""

    width: int
    start: float

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Maps [..., width] to the same shape, of length 1."""
        scale = math.sqrt(2.0 / (_WIDENING * self.width))
        inner = nn.relu(Scaler(scale, scale)(_linear(_WIDENING * self.width)(features)))
        # Not all zero, or there would be no direction.
        aim = unit_length(_linear(self.width)(inner + 1e-8))
        return unit_length(features + Scaler(self.start, 1.0 / math.sqrt(self.width))(aim - features))


class HypersphericalTrunk(nn.Module):
    """The embedder and blocks, each of which widens four times inside.

    Attributes:
      width: features.
      blocks: number of them.
      shift: the constant that is appended to the inputs, which should be normalised to variance 1.
    """

    width: int
    blocks: int
    shift: float = 3.0

    @nn.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """Maps [..., input] to [..., width] of length 1, in training as elsewhere."""
        features = HypersphericalEmbedder(self.width, self.shift)(inputs)
        for _ in range(self.blocks):
            features = HypersphericalBlock(self.width, 1.0 / (self.blocks + 1))(features)
        return features


class HypersphericalHead(nn.Module):
    """Two layers with a scale between them and a bias after; to be called `head`, so that the bias is left free."""

    outputs: int

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Maps [..., width] to [..., outputs]."""
        scaled = Scaler(1.0, 1.0)(_linear(features.shape[-1])(features))
        outputs: Array = nn.Dense(self.outputs, kernel_init=unit_orthogonal())(scaled)
        return outputs


def _linear(width: int) -> nn.Dense:
    return nn.Dense(width, use_bias=False, kernel_init=unit_orthogonal())
