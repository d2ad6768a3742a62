"""FlashSAC's network: residual blocks with batch normalisation, and the length of the features normalised at the end.

Weights and the normalisations' numbers keep their lengths by `project(parameters, "norms")` after each step of the
optimiser; they begin with them.

Source: FlashSAC (arXiv 2604.04539); widths of 256 (critics) and 128 (policy), two blocks.
"""

from __future__ import annotations

import flax.linen as nn
from jax import Array

from maxent_rl.networks.initializers import unit_orthogonal
from maxent_rl.networks.normalization import BatchNorm

_WIDENING = 4


class FlashBlock(nn.Module):
    """Two layers beside the residual stream, each followed by batch normalisation and ReLU."""

    width: int

    @nn.compact
    def __call__(self, stream: Array, train: bool) -> Array:
        """Maps [..., width] to the same shape."""
        branch = stream
        for width in (_WIDENING * self.width, self.width):
            branch = nn.relu(_norm()(_linear(width)(branch), train))
        return stream + branch


class FlashTrunk(nn.Module):
    """Batch normalisation of the inputs, a linear layer, blocks, and RMS normalisation.

    Attributes:
      width: features.
      blocks: number of them.
    """

    width: int
    blocks: int

    @nn.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """Maps [..., input] to [..., width].

        Args:
          inputs: [..., input] raw numbers.
          train: whether to normalise by the moments of this batch, which the running ones then follow if the collection
            "batch_stats" is mutable; or by the running ones.
        """
        stream = _linear(self.width)(_norm()(inputs, train))
        for _ in range(self.blocks):
            stream = FlashBlock(self.width)(stream, train)
        features: Array = nn.RMSNorm()(stream)
        return features


def _norm() -> BatchNorm:
    return BatchNorm(momentum=0.99, epsilon=1e-5)


def _linear(width: int) -> nn.Dense:
    return nn.Dense(width, use_bias=False, kernel_init=unit_orthogonal())
