"""Learning less often than at every update: whether it is due, for all seeds that learn side by side."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from maxent_rl.types import Array


@jax.custom_batching.custom_vmap
def in_any_seed(due: Array) -> Array:
    """[] whether something is due in any of the seeds that are vmapped over.

    Their counters run alike, but `vmap` cannot know, and of a condition for each seed it would make both branches for all:
    the policy would learn, and be thrown away, in every update.
    """
    return due


@in_any_seed.def_vmap
def _reduce(axis_size: int, batched: list[bool], due: Array) -> tuple[Array, bool]:
    return in_any_seed(jnp.any(due, axis=0) if batched[0] else due), False
