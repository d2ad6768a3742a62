"""How right a place on a screen is: points in boxes, and boxes over boxes.

A box is (left, top, right, bottom), in any unit of length; one whose right is left of its left, or likewise, is empty.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision


@in_single_precision
def point_in_box(point: ArrayLike, box: ArrayLike) -> Array:
    """Whether a point lies in a box, its edge included.

    Args:
      point: [..., 2] from the left and from the top.
      box: [..., 4].

    Returns:
      [...] 1 or 0, without gradient.
    """
    point, box = jnp.asarray(point), jnp.asarray(box)
    inside = (box[..., :2] <= point) & (point <= box[..., 2:])
    return jnp.all(inside, axis=-1).astype(jnp.float32)


@in_single_precision
def point_closeness(point: ArrayLike, box: ArrayLike, width: ArrayLike = 1.0) -> Array:
    """How close a point is to the centre of a box: `exp(-distance^2 / (2 width^2))`, which teaches from further away.

    Args:
      point: [..., 2].
      box: [..., 4].
      width: [...] above 0, in the unit of the box: how far off is still close.

    Returns:
      [...] from 0 to 1, and 1 at the centre alone.
    """
    point, box = jnp.asarray(point), jnp.asarray(box)
    off = (point - (box[..., :2] + box[..., 2:]) / 2) / jnp.asarray(width)[..., None]
    return jnp.exp(-jnp.sum(off**2, axis=-1) / 2)


@in_single_precision
def intersection_over_union(first: ArrayLike, second: ArrayLike) -> Array:
    """How much two boxes cover each other: the area of what both cover over that of what either does.

    Args:
      first: [..., 4].
      second: [..., 4].

    Returns:
      [...] from 0 to 1: 1 for equal boxes, 0 for boxes apart and where either is empty.
    """
    first, second = jnp.asarray(first), jnp.asarray(second)
    both = jnp.concatenate(
        [jnp.maximum(first[..., :2], second[..., :2]), jnp.minimum(first[..., 2:], second[..., 2:])], axis=-1
    )
    shared = _area(both)
    union = _area(first) + _area(second) - shared
    # A quotient of no areas has no gradient either: the inner choice keeps NaN out of it.
    return jnp.where(shared > 0, shared / jnp.where(union > 0, union, 1.0), 0.0)


def _area(box: Array) -> Array:
    sides = jnp.maximum(box[..., 2:] - box[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]
