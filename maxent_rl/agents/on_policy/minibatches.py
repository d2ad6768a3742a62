"""Sharing a window of steps among gradient steps: whole samples as rows of one array, which one gather shuffles."""

from __future__ import annotations

import math
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.types import Array, PyTree

Tree = TypeVar("Tree", bound=PyTree)


@struct.dataclass
class Samples:
    """What the steps of a window are to the loss, with any leading axes [...]; observations are normalised.

    Attributes:
      observation: [..., observation].
      action: [..., action], or [...] discrete ones as floats.
      log_prob: [...] of the action under the policy that drew it, in nats.
      value: [...] of the observation when it was acted on, in units of (scaled) return.
      advantage: [...] in units of (scaled) return.
    """

    observation: Array
    action: Array
    log_prob: Array
    value: Array
    advantage: Array


def pack(units: PyTree) -> Array:
    """A pytree of [unit, ...] as rows [unit, width]."""
    return jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(units)], axis=1)


def unpack(rows: Array, like: Tree) -> Tree:
    """Rows [batch, width] as a pytree of [batch, ...], of the shapes and types behind the first axis of `like`."""
    leaves, structure = jax.tree.flatten(like)
    parts, first = [], 0
    for leaf in leaves:
        size = math.prod(leaf.shape[1:])
        parts.append(rows[:, first : first + size].reshape(len(rows), *leaf.shape[1:]).astype(leaf.dtype))
        first += size
    unpacked: Tree = jax.tree.unflatten(structure, parts)
    return unpacked


def nearest_divisors(total: int, wanted: int) -> str:
    """The divisors of a number below and above one that is none, in words: "4 or 7"."""
    fits = [count for count in range(1, total + 1) if total % count == 0]
    below, above = max(c for c in fits if c <= wanted), min((c for c in fits if c > wanted), default=1)
    return " or ".join(map(str, sorted({below, above})))
