"""A function of JAX that Brax's training calls and that jax 0.10 has no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def put_back() -> None:
    """Puts `jax.device_put_replicated` back where it is missing; the copies go where the program that takes them runs."""
    if not hasattr(jax, "device_put_replicated"):
        jax.device_put_replicated = _replicate


def _replicate(tree: Any, devices: Sequence[Any]) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(devices), *jnp.shape(leaf))), tree)
