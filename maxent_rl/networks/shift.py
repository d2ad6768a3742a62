"""How far another policy's means lie from a given policy's: BRO's optimistic actor.

Source: Bigger, Regularized, Optimistic: scaling for compute and sample-efficient continuous control (arXiv 2405.16158).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maxent_rl.networks.initializers import orthogonal
from maxent_rl.networks.trunk import TrunkPlan, make_trunk


class Shift(nn.Module):
    """A trunk over observation and mean, and a head without bias that begins near zero.

    Attributes:
      trunk: before the head.
    """

    trunk: TrunkPlan

    @nn.compact
    def __call__(self, observation: Array, mean: Array) -> Array:
        """Maps [..., observation] and means [..., action] before squashing to shifts [..., action] of them."""
        features = make_trunk(self.trunk)(jnp.concatenate([observation, mean], axis=-1))
        shift: Array = nn.Dense(mean.shape[-1], kernel_init=orthogonal(0.01), use_bias=False, name="head")(features)
        return shift
