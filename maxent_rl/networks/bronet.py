"""BroNet: residual blocks with layer normalisation within the branch, before the sum, and no activation after it.

Source: Bigger, Regularized, Optimistic: scaling for compute and sample-efficient continuous control (arXiv 2405.16158).
"""

from __future__ import annotations

import math

import flax.linen as nn
from jax import Array

from maxent_rl.networks.initializers import orthogonal


class BroNetTrunk(nn.Module):
    """A layer with normalisation and ReLU, and blocks of two layers beside a residual stream.

    Attributes:
      width: features.
      blocks: number of them.
    """

    width: int
    blocks: int

    @nn.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """Maps [..., input] to [..., width], in training as elsewhere."""
        stream = nn.relu(nn.LayerNorm()(self._layer()(inputs)))
        for _ in range(self.blocks):
            branch = nn.relu(nn.LayerNorm()(self._layer()(stream)))
            stream = stream + nn.LayerNorm()(self._layer()(branch))
        features: Array = stream
        return features

    def _layer(self) -> nn.Dense:
        return nn.Dense(self.width, kernel_init=orthogonal(math.sqrt(2.0)))
