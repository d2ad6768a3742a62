"""Equal up to what the arithmetic explains.

Two processors add the same terms in another order, fuse a product with a sum or not, and take exponentials by other
polynomials. What they differ by follows the size of the terms, not that of the result: an entry in which terms cancel is
as uncertain as the largest of its array. So tolerances here are relative to the array, or to a `scale` that the test
names where all entries of the result are small against what was summed.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

SINGLE = float(np.finfo(np.float32).eps)  # 1.2e-7: what one operation of float32 loses, relative to its result
DOUBLE = float(np.finfo(np.float64).eps)


def rounding(operations: float, eps: float = SINGLE) -> float:
    """The relative tolerance of a result of so many operations in a row, each of which loses at most `eps`."""
    return operations * eps


def assert_close(
    actual: Any, desired: Any, rtol: float = 1e-5, *, scale: float | None = None, err_msg: str = ""
) -> None:
    """Every entry of every leaf is within `rtol` times the largest entry of its leaf of `desired`.

    Args:
      actual: array, number, or tree of them.
      desired: the same structure; leaves broadcast as in NumPy.
      rtol: relative to the size of a leaf: its largest finite entry.
      scale: the size to use instead: that of the terms which were summed, where they cancel.
      err_msg: shown where they differ.

    Raises:
      AssertionError: naming the leaf.
    """
    actual_leaves, desired_leaves = jax.tree.leaves_with_path(actual), jax.tree.leaves(desired)
    assert len(actual_leaves) == len(desired_leaves), f"{len(actual_leaves)} leaves, expected {len(desired_leaves)}"
    for (path, found), wanted in zip(actual_leaves, desired_leaves, strict=True):
        size = scale if scale is not None else _largest(np.asarray(wanted))
        name = " ".join(filter(None, [err_msg, jax.tree_util.keystr(path)]))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=rtol * size, err_msg=name)


def _largest(leaf: np.ndarray) -> float:
    return float(np.max(np.abs(leaf[np.isfinite(leaf)]), initial=0.0))
