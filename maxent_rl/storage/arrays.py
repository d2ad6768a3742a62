"""Pytrees as named NumPy arrays, and nested host values as one array: what checkpoints and policies are made of.

Nothing here is pickled, so nothing that is read can execute code.
"""

from __future__ import annotations

import io
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from maxent_rl.errors import CheckpointError
from maxent_rl.storage.archives import Archive
from maxent_rl.storage.reading import parse_json, refuse_damage
from maxent_rl.types import PyTree

Arrays = dict[str, NDArray[Any]]


def to_arrays(tree: PyTree) -> Arrays:
    """Copies a pytree's leaves to the host, each named by its path. Random keys become their data (uint32).

    The copies are real ones: on CPU a NumPy view of a JAX array would share memory that the next step, with its donated
    buffers, writes into while the copy is still on its way to disk.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.array(_data(leaf), copy=True) for path, leaf in leaves}


def from_arrays(template: PyTree, arrays: Arrays) -> PyTree:
    """Rebuilds a pytree from `to_arrays`, in the structure, types and device placement of `template`.

    Raises:
      CheckpointError: an array is missing, or has another shape or type than the template's.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    rebuilt = []
    for path, leaf in leaves:
        name, wanted = jax.tree_util.keystr(path), _data(leaf)
        if name not in arrays and wanted.size == 0:
            rebuilt.append(leaf)  # checkpoints leave out arrays without entries
            continue
        if name not in arrays:
            raise CheckpointError(f"{name} is missing.")
        value = arrays[name]
        if value.shape != wanted.shape or value.dtype != wanted.dtype:
            raise CheckpointError(
                f"{name} has shape {value.shape} and type {value.dtype}, expected {wanted.shape} and {wanted.dtype}."
            )
        rebuilt.append(_like(leaf, value))
    return jax.tree_util.tree_unflatten(structure, rebuilt)


def pack(tree: Any) -> NDArray[np.uint8]:
    """Writes a tree of dicts, lists, arrays and JSON values into one array of bytes (an npz archive)."""
    arrays: Arrays = {}

    def encode(value: Any) -> Any:
        if isinstance(value, dict):
            return {"dict": {str(key): encode(entry) for key, entry in value.items()}}
        if isinstance(value, (list, tuple)):
            return {"list": [encode(entry) for entry in value]}
        if isinstance(value, (np.ndarray, np.generic)):
            name = f"a{len(arrays)}"
            arrays[name] = np.asarray(value)
            return {"array": name}
        return {"value": value}

    text = json.dumps(encode(tree))
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, tree=np.frombuffer(text.encode(), np.uint8), **arrays)
    return np.frombuffer(buffer.getvalue(), np.uint8).copy()


def unpack(data: NDArray[np.uint8]) -> Any:
    """Reads what `pack` wrote; lists stay lists where tuples were.

    Raises:
      CheckpointError: it is something else, or damaged.
    """
    with refuse_damage("A packed state", CheckpointError):
        archive = Archive(io.BytesIO(data.tobytes()))

        def decode(node: dict[str, Any]) -> Any:
            if "dict" in node:
                return {key: decode(entry) for key, entry in node["dict"].items()}
            if "list" in node:
                return [decode(entry) for entry in node["list"]]
            return archive.array(node["array"]) if "array" in node else node["value"]

        return decode(parse_json(archive.array("tree").tobytes().decode()))


def _data(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf)
    return leaf if hasattr(leaf, "dtype") else np.asarray(leaf)


def _like(leaf: Any, value: NDArray[Any]) -> Any:
    """The value as an array of the template leaf's kind, placed as that is: otherwise jitted steps would compile anew."""
    if not isinstance(leaf, jax.Array):
        return value
    # A copy made by XLA: a donated buffer must not alias memory that NumPy owns.
    array = jnp.array(value, copy=True)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        array = jax.random.wrap_key_data(array)
    return jax.device_put(array, leaf.sharding) if leaf.committed else array
