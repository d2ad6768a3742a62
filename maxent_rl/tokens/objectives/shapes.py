"""What shape stages share: stages that set the weight, the mask or the advantage of single tokens."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.pipeline import Slot, Stage


class Shape(Stage):
    """A stage that shapes what the surrogate makes of single tokens."""

    slot: ClassVar[Slot] = "shape"


def token_advantages(batch: TokenBatch) -> Array:
    """The advantages so far, for each token: [N, T], 0 where masked; without an advantage stage, the rewards."""
    advantages = batch.outcomes if batch.advantages is None else jnp.asarray(batch.advantages, jnp.float32)
    return jnp.where(batch.mask, advantages[:, None] if advantages.ndim == 1 else advantages, 0.0)
