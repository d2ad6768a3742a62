"""Anchors: copies of a policy's parameters that stay behind it, and the rules by which they follow.

Source: ADPO: Anchored Direct Preference Optimization (arXiv 2510.18913). Where the anchor is the policy that drew the data
(tokens, rollouts), the log-probabilities noted then are the anchor, and none of this is needed.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

AnchorName: TypeAlias = Literal["uniform", "fixed", "copy", "ema", "kl"]


@struct.dataclass
class AnchorState:
    """What changes.

    Attributes:
      params: of the anchor, as the policy's; None for a uniform one.
      updates: [] int32 updates so far.
      recent: [window] latest divergences, the newest last.
      filled: [] int32 how many of them there are since the last copy.
    """

    params: Any
    updates: Array
    recent: Array
    filled: Array


@struct.dataclass
class Anchor:
    """How an anchor follows the policy.

    Attributes:
      kind: "uniform": there is none; "fixed": never follows; "copy": becomes the policy every so many updates; "ema": moves
        a share of the way each time; "kl": becomes the policy when they have grown apart.
      every: updates between copies.
      decay: share of the anchor that stays in each update of "ema".
      threshold: mean divergence over the window, in nats, above which "kl" copies.
      window: updates over which that mean is taken.

    Raises:
      ValueError: there is no such kind.
    """

    kind: AnchorName = struct.field(pytree_node=False, default="fixed")  # type: ignore[no-untyped-call]
    every: Any = 1
    decay: Any = 0.99
    threshold: Any = 0.1
    window: int = struct.field(pytree_node=False, default=10)  # type: ignore[no-untyped-call]

    def __post_init__(self) -> None:
        """What is not checked here would follow as "kl" does."""
        if self.kind not in get_args(AnchorName):
            raise ValueError(f"Unknown anchor {self.kind!r}; there are {', '.join(get_args(AnchorName))}.")

    def init(self, params: Any) -> AnchorState:
        """Begins with the policy itself."""
        own = None if self.kind == "uniform" else jax.tree.map(jnp.copy, params)
        zero = jnp.zeros((), jnp.int32)
        return AnchorState(own, zero, jnp.zeros(self.window, jnp.float32), zero)

    def update(self, state: AnchorState, params: Any, divergence: Array) -> AnchorState:
        """Follows the policy by one update, to be called once the loss has been evaluated.

        Args:
          state: the anchor's.
          params: of the policy with which the loss was evaluated.
          divergence: [] mean of |log-probability - that under the anchor| over the batch, in nats.
        """
        state = dataclasses.replace(state, updates=state.updates + 1)
        if self.kind in ("uniform", "fixed"):
            return state
        if self.kind == "ema":
            return dataclasses.replace(state, params=jax.tree.map(self._nearer, state.params, params))
        if self.kind == "copy":
            return dataclasses.replace(state, params=_choose(state.updates % self.every == 0, params, state.params))
        recent = jnp.append(state.recent[1:], divergence).astype(jnp.float32)
        filled = jnp.minimum(state.filled + 1, self.window)
        apart = (filled == self.window) & (jnp.mean(recent) > self.threshold)
        filled = jnp.where(apart, 0, filled)
        return dataclasses.replace(
            state, params=_choose(apart, params, state.params), recent=recent, filled=filled.astype(jnp.int32)
        )

    def _nearer(self, old: Array, new: Array) -> Array:
        """In the precision of the parameters: a loop must get back what it gave."""
        moved: Array = self.decay * old + (1.0 - self.decay) * new
        return moved.astype(old.dtype)


def _choose(condition: Array, when_true: Any, when_false: Any) -> Any:
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old), when_true, when_false)
