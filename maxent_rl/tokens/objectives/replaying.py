"""What an objective wants of responses of earlier iterations: which are kept, which are worth learning from, and how much.

Who holds them is the trainer (`maxent_rl.tokens.replay`); what they are worth by now is said here.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses

Recalibration: TypeAlias = Literal["median", "median-deviation", "decay"]
"""A kept response's advantage: its reward above the median of the groups' means so far, the same in units of the median of
their deviations, or the advantage that it had, times a factor."""

_EPSILON = 1e-6


@struct.dataclass
class Replay:
    """The wish.

    Attributes:
      size: most responses that are replayed at once; None for as many as an iteration draws.
      means: how many means of groups are looked back at.
      age: iterations after which a response is forgotten.
      calls: keep only conversations in which a tool was called.
      recalibration: how old advantages become new ones.
      zeros: learn, too, from responses whose new advantage is exactly 0.
      consecutive: learn in optimiser steps of its own, after those on the new responses, and not beside them in each step.
      decay: [] the factor.
      weight: [] of the loss of a replayed response beside that of a new one.
      stages: of the replayed responses' loss, beside the objective's own surrogate and aggregate.
    """

    size: int | None = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    means: int = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    age: int = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    calls: bool = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    recalibration: Recalibration = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    zeros: bool = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    consecutive: bool = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    decay: Array | float
    weight: Array | float
    stages: tuple[Any, ...]

    def recalibrated(self, rewards: Array, advantages: Array, median: Array, deviation: Array) -> Array:
        """[...] what kept responses are worth now; a reward that is the median but for rounding is worth 0.

        Args:
          rewards: [...] of the responses.
          advantages: [...] that they had.
          median: [] of the means of groups.
          deviation: [] the median of their standard deviations.

        Source: arXiv 2509.22601; the deviation is of its released code.
        """
        if self.recalibration == "decay":
            return self.decay * advantages
        size = jnp.maximum(jnp.abs(rewards), jnp.abs(median))
        above = losses.without_rounding(rewards - median, size)
        return above if self.recalibration == "median" else above / (deviation + _EPSILON)

    def counted(self, rewards: Array, median: Array) -> Array:
        """[...] bool: which of the kept responses count towards a replay: those above the median, or all."""
        if self.recalibration == "decay":
            return jnp.ones(rewards.shape, bool)
        return (rewards > median) & losses.apart(rewards, median)

    def worth(self, advantages: Array) -> Array:
        """[...] bool: which may be replayed, by their new advantages."""
        if self.recalibration == "decay":
            return jnp.ones(advantages.shape, bool)
        return advantages >= 0 if self.zeros else advantages > 0
