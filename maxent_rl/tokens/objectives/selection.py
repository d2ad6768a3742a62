"""Choosing a few tokens of a batch by rank, with shapes that do not depend on how many."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def share_of(count: Array, share: ArrayLike, least: int = 1) -> Array:
    """The whole number of tokens that a share of them is: `max(floor(share * count), least)`.

    Args:
      count: [] tokens.
      share: [] between 0 and 1.
      least: the smallest answer.

    Returns:
      [] int32. A product that single precision rounds to just below a whole number counts as that number.
    """
    product = jnp.asarray(share, jnp.float32) * count
    return jnp.maximum(jnp.floor(product * (1.0 + 5e-7)), least).astype(jnp.int32)


def drawn(key: Array, number: Array, mask: Array) -> Array:
    """A random number from 0 to 1 for each token, which is that of its response and of its place in it.

    Neither the order of the rows nor masked places around the tokens change it, as they would a draw by the shape.

    Args:
      key: [] random key.
      number: [N] int32 of the response in each row (`Whole.number`).
      mask: [N, T] where there are tokens.

    Returns:
      [N, T].
    """
    place = jnp.maximum(jnp.cumsum(mask, axis=-1) - 1, 0)
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(number)
    fold = jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(None, 0)))
    return jax.vmap(jax.vmap(jax.random.uniform))(fold(keys, place))


def smallest(values: Array, eligible: Array, count: Array) -> Array:
    """Where the `count` smallest eligible values stand; of equal ones the first.

    Args:
      values: [...].
      eligible: [...] which of them may be chosen.
      count: [] how many; all eligible ones where there are fewer.

    Returns:
      [...] bool.
    """
    held = jnp.where(eligible, values, jnp.inf).ravel()
    # Not by the value alone: an eligible one may be infinite.
    order = jnp.lexsort((held, ~eligible.ravel()))
    ranks = jnp.zeros(held.size, jnp.int32).at[order].set(jnp.arange(held.size, dtype=jnp.int32))
    return eligible & (ranks.reshape(values.shape) < count)


def largest(values: Array, eligible: Array, count: Array) -> Array:
    """Where the `count` largest eligible values stand; of equal ones the first."""
    return smallest(-values, eligible, count)
