"""Soups: one network whose weights are the average of several networks of the same shape.

Averages of weights are worth something where the networks share their start, so that a straight line between them crosses no
barrier of the loss; of networks from different starts they are not.

Source: Model soups (arXiv 2203.05482), uniform soup; SALSA (arXiv 2411.01798), two or three of them as a reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maxent_rl.errors import InvalidSettingError, ShapeError


def soup(networks: Sequence[Any], weights: Sequence[float] | None = None) -> Any:
    """Averages parameters, leaf by leaf, in single precision at least.

    Args:
      networks: pytrees of parameters, of one structure and one shape each; statistics of batches among them would have to be
        computed anew.
      weights: of each, at least 0, which sum to 1; None for all alike.

    Returns:
      The average, in the types of the first.

    Raises:
      InvalidSettingError: no network, or weights that are no shares of as many.
      ShapeError: networks of different shape, naming the first place where they differ.
    """
    if not networks:
        raise InvalidSettingError("A soup needs at least one network, got none.")
    shares = [1.0 / len(networks)] * len(networks) if weights is None else [float(each) for each in weights]
    if len(shares) != len(networks) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise InvalidSettingError(
            f"A soup of {len(networks)} networks needs as many weights of at least 0 that sum to 1, got {shares}."
        )
    for place, other in enumerate(networks[1:], start=1):
        _check_shape(networks[0], other, place)

    def average(*leaves: Any) -> Array:
        wide = jnp.promote_types(jnp.result_type(leaves[0]), jnp.float32)
        total = sum(share * jnp.asarray(leaf, wide) for share, leaf in zip(shares, leaves, strict=True))
        return jnp.asarray(total, jnp.result_type(leaves[0]))

    return jax.tree.map(average, *networks)


def _check_shape(first: Any, other: Any, place: int) -> None:
    """Refuses a network that has not, leaf by leaf, the shapes of the first."""
    shapes, others = (
        {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(each)}
        for each in (first, other)
    )
    for name in sorted(shapes.keys() | others.keys()):
        if shapes.get(name) != others.get(name):
            wanted, found = (str(each[name]) if name in each else "nothing" for each in (shapes, others))
            raise ShapeError(
                f"A soup averages networks of one shape, and network {place} has {found} at {name} where network 0 has "
                f"{wanted}."
            )
