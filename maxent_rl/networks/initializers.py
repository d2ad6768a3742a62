"""Initial weights that networks of several files take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array


def orthogonal(gain: float = 1.0) -> nn.initializers.Initializer:
    """Orthogonal weights, with seeds under `vmap` decomposed one after the other.

    On CPUs jaxlib divides a batch of decompositions among the threads of a pool, and waits for them on a thread of that very
    pool: as many batches at once as there are threads, two layers on two cores, wait for each other for good.
    """
    drawn = nn.initializers.orthogonal(gain)

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        one = jax.custom_batching.sequential_vmap(lambda key: drawn(key, shape, dtype))  # type: ignore[no-untyped-call]
        weights: Array = one(key)
        return weights

    return init


def unit_orthogonal() -> nn.initializers.Initializer:
    """Orthogonal weights [in, out] with columns of length 1, which those with more outputs than inputs have not at first."""
    drawn = orthogonal()

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        weights: Array = drawn(key, shape, dtype)
        columns: Array = weights / jnp.linalg.norm(weights, axis=-2, keepdims=True)
        return columns

    return init
