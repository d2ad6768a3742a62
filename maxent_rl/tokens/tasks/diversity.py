"""How many different right answers a policy gives: what entropy is held for."""

from __future__ import annotations

import jax.numpy as jnp

from maxent_rl.tokens.tasks.writing import PAD_TOKEN
from maxent_rl.types import Array


def count_distinct(responses: Array, mask: Array, reward: Array, group_size: int) -> Array:
    """Counts the distinct right answers among the responses to each prompt.

    Args:
      responses: [N, T] tokens, the `group_size` responses of a prompt one after the other.
      mask: [N, T] nonzero up to and including the end token; what stands elsewhere does not distinguish responses.
      reward: [N], above 0 for right answers.
      group_size: G, responses of one prompt; divides N.

    Returns:
      [N / G] int32, from 0 to G.

    Raises:
      ValueError: `group_size` does not divide N.
    """
    if group_size < 1 or responses.shape[0] % group_size:
        raise ValueError(f"{responses.shape[0]} responses cannot be divided into groups of {group_size}.")
    seen = jnp.where(mask.astype(bool), responses, PAD_TOKEN).reshape(-1, group_size, responses.shape[-1])
    right = (reward > 0).reshape(-1, group_size)
    same = jnp.all(seen[:, :, None] == seen[:, None, :], axis=-1)
    # A response counts unless it is wrong, or an earlier one of its group (which is then right too) is the same.
    repeated = jnp.any(jnp.tril(same & right[:, None, :], k=-1), axis=-1)
    return jnp.sum(right & ~repeated, axis=-1, dtype=jnp.int32)
