"""How far rounding alone may drive apart what is equal: a difference that decides anything must be larger.

Programs that add the same terms in another order, or fuse a product with a sum, differ in the last bits. Whether two of
their numbers are equal, or which is the larger, would then be chance, and another chance on the next processor.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

_ROUNDINGS = 4.0  # a few operations, each of which loses up to half an eps of its result


def rounding_of(size: ArrayLike) -> Array:
    """What the rounding of a few operations amounts to: four times the distance from 1 to the next number, times the size.

    Args:
      size: [...] of the terms that were added, averaged or subtracted; not that of the result, where they cancel.

    Returns:
      [...] at least 0, in the unit of the size and without gradient; infinite where the size is.
    """
    size = jax.lax.stop_gradient(jnp.abs(jnp.asarray(size)))
    if not jnp.issubdtype(size.dtype, jnp.floating):
        size = size.astype(jnp.float32)
    eps = float(jnp.finfo(size.dtype).eps)  # type: ignore[no-untyped-call]
    return _ROUNDINGS * eps * size


def apart(first: ArrayLike, second: ArrayLike) -> Array:
    """Where two numbers differ by more than the rounding of either.

    Args:
      first: [...].
      second: [...] or broadcastable.

    Returns:
      [...] bool; infinite numbers are equal to themselves alone.
    """
    first, second = jnp.asarray(first), jnp.asarray(second)
    near = jnp.abs(first - second) < rounding_of(jnp.maximum(jnp.abs(first), jnp.abs(second)))
    return (first != second) & ~near


def without_rounding(value: ArrayLike, size: ArrayLike) -> Array:
    """A difference, exactly 0 where it may be the rounding of its terms; the gradient is the same everywhere.

    Args:
      value: [...].
      size: [...] or broadcastable, of the terms.

    Returns:
      [...].
    """
    value = jnp.asarray(value)
    # Taken off and not replaced, for the gradient's sake.
    return value - jax.lax.stop_gradient(jnp.where(jnp.abs(value) < rounding_of(size), value, 0.0))
