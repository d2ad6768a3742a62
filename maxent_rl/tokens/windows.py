"""Means over neighbouring tokens of a response, whatever stands between them."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def window_means(values: ArrayLike, mask: ArrayLike, width: int, after: bool = False) -> tuple[Array, Array]:
    """The mean over each token and those that follow it, `width` in all, or over the `width` that follow it.

    Masked places are passed over: neighbours are the valid tokens, in order.

    Args:
      values: [N, T].
      mask: [N, T] where there are tokens.
      width: tokens in a window.
      after: leave the token itself out.

    Returns:
      (means [N, T], whole [N, T] bool: where there are enough tokens, elsewhere and where masked the mean is 0).

    Source: ARES (arXiv 2510.08457), sections on window entropy; `after` as in its released code.
    """
    valid = jnp.asarray(mask, bool)
    length = valid.shape[1]
    place = jnp.cumsum(valid, axis=-1) - 1
    # The valid tokens to the front: a stable sort keeps their order.
    order = jnp.argsort(~valid, axis=-1, stable=True)
    packed = jnp.take_along_axis(jnp.where(valid, jnp.asarray(values), 0.0), order, axis=-1)
    shifts = range(int(after), width + int(after))
    total = sum(jnp.pad(packed[:, shift:], ((0, 0), (0, min(shift, length)))) for shift in shifts)
    count = jnp.sum(valid, axis=-1, keepdims=True)
    whole = valid & (place + width + int(after) <= count)
    means = jnp.take_along_axis(total / width, jnp.maximum(place, 0), axis=-1)
    return jnp.where(whole, means, 0.0), whole
