"""Parameters on spheres: after a step of the optimiser the weights of each unit get length 1 again.

Under a normalisation the length of a layer's weights does not matter to what it computes, but it grows, and Adam's steps
shrink beside it. With the length held, the step is a change of direction, as large as the learning rate says.

Source: XQC (arXiv 2509.25174), SimbaV2 (arXiv 2502.15280) and FlashSAC (arXiv 2604.04539).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jax import Array

PyTree: TypeAlias = Any
ProjectionName: TypeAlias = Literal["none", "hidden", "columns", "norms"]

_SMALLEST_SQUARE = 1e-16  # a column shorter than 1e-8 counts as that long: one of zeros stays so
_ADDED_TO_SQUARES = 1e-8  # FlashSAC's, below the root of what a normalisation's numbers are divided by


def project(parameters: PyTree, kind: ProjectionName) -> PyTree:
    """Parameters with the lengths that `kind` holds; doing it twice changes nothing.

    A unit's weights are a column of a kernel [in, out], and have length 1 together with the unit's bias, if there is one. An
    *output* layer's bias is free, as it says what the outputs are about. The names tell which layers those are: whatever
    stands beside a trunk is output (`head`, `log_std`, `router`, a critic's `Dense_0`), and everything else is hidden. A
    trunk is a module called `trunk`, or by flax after its class, `MLP_0` or `SimbaTrunk_0`. Layers that read images (below
    `encoder`) stay as they are.

    Args:
      parameters: nested dictionaries as flax makes them, of one network or of several, without an axis of seeds (those are
        vmapped).
      kind: "none": nothing; "hidden": kernels of hidden layers; "columns": kernels of all layers; "norms": besides, scale and
        bias of each normalisation over n features get the length sqrt(n) that they begin with, together.

    Returns:
      The same structure.

    Raises:
      ValueError: there is no such kind.
      TypeError: the parameters are no dictionary, so that nothing would be projected.
    """
    if kind not in get_args(ProjectionName):
        raise ValueError(f"Unknown projection {kind!r}; there are {', '.join(get_args(ProjectionName))}.")
    if not isinstance(parameters, Mapping):
        raise TypeError(f"Projection takes nested dictionaries of parameters, got {type(parameters).__name__}.")
    return parameters if kind == "none" else _projected(parameters, kind, output=False)


def _projected(tree: PyTree, kind: ProjectionName, output: bool) -> PyTree:
    if not isinstance(tree, Mapping):
        return tree
    if "kernel" in tree:
        return tree if output and kind == "hidden" else _with_unit_columns(tree, joint=not output)
    if kind == "norms" and "scale" in tree:
        return _with_first_length(tree)
    has_trunk = any(_is_trunk(name) for name in tree)
    return {
        name: part if name == "encoder" else _projected(part, kind, output or (has_trunk and not _is_trunk(name)))
        for name, part in tree.items()
    }


def _is_trunk(name: str) -> bool:
    own = name.rpartition("_")[0] or name
    return own in ("trunk", "MLP") or own.endswith("Trunk")


def _with_unit_columns(layer: Mapping[str, Array], joint: bool) -> dict[str, Array]:
    """A layer {kernel, bias} with columns of length 1; kernels of more axes (convolutions) are left alone."""
    kernel, bias = layer["kernel"], layer.get("bias")
    if kernel.ndim != 2:
        return dict(layer)
    squares = jnp.sum(kernel**2, axis=0)
    if bias is None or not joint:
        return {**layer, "kernel": kernel * jax.lax.rsqrt(_bounded(squares))}
    factor = jax.lax.rsqrt(_bounded(squares + bias**2))
    return {**layer, "kernel": kernel * factor, "bias": bias * factor}


def _with_first_length(norm: Mapping[str, Array]) -> dict[str, Array]:
    """A normalisation {scale} or {scale, bias} of n features, with length sqrt(n)."""
    learned = {name: norm[name] for name in ("scale", "bias") if name in norm}
    squares = sum(jnp.sum(part**2) for part in learned.values())
    factor = jnp.sqrt(norm["scale"].size / (squares + _ADDED_TO_SQUARES))
    return {**norm, **{name: part * factor for name, part in learned.items()}}


def _bounded(squares: Array) -> Array:
    return jnp.maximum(squares, _SMALLEST_SQUARE)
