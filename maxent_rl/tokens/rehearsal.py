"""The responses that an iteration replays, and what their loss adds to its optimiser steps."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.tokens.batch import Prompted, TokenBatch, TokenOutputs
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.objectives import Aggregate, Objective, Replay
from maxent_rl.tokens.replay import ReplayState
from maxent_rl.tokens.sampling import any_going
from maxent_rl.types import Array, Metrics, PyTree

_METRICS = {
    "replay/clip_fraction_high": "policy/clip_fraction_high",
    "replay/ratio_max": "policy/ratio_max",
    "replay/chosen": "covariance/chosen",
    "replay/loss": "policy/loss",
}


@struct.dataclass
class Rehearsal:
    """Replayed responses, all of an iteration or those of one optimiser step.

    Attributes:
      objective: that learns from them (`Objective.replayed`).
      batch: prepared; rows without tokens hold no response.
      orders: [K, R] int32 the rows of each optimiser step.
      weight: [] of a replayed response beside a new one.
      goes: [] bool: whether there is any, under vmap in any seed: what the other seeds then compute is 0.
      beside: how many new responses an optimiser step has.
      consecutive: whether these are optimiser steps of their own, or the same as those of the new responses.
    """

    objective: Objective
    batch: TokenBatch
    orders: Array
    weight: Array
    goes: Array
    beside: int = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    consecutive: bool = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]

    @classmethod
    def begin(
        cls,
        wish: Replay,
        objective: Objective,
        memory: ReplayState,
        key: Array,
        batch: TokenBatch,
        *,
        size: int,
        beside: int,
        minibatches: int,
        epochs: int,
    ) -> tuple[ReplayState, Rehearsal, Metrics]:
        """Draws what is replayed.

        Args:
          wish: of the objective that learns from the new responses.
          objective: its `replayed`.
          memory: before the iteration.
          key: [] random key.
          batch: the new responses, prepared.
          size: most responses that are replayed.
          beside: how many new responses an optimiser step has.
          minibatches: such steps of an epoch.
          epochs: times that all are gone over.

        Returns:
          (memory with the state of the objective, the rehearsal of all steps, metrics). Beside the new responses each step
          has its share of them; steps of their own have as many as those of the new ones.
        """
        rows_of_step = beside if wish.consecutive else math.ceil(size / minibatches)
        steps = math.ceil(size / beside) if wish.consecutive else minibatches
        drawn, there = memory.drawn(key, wish, size, batch, steps * rows_of_step)
        places = jnp.arange(steps * rows_of_step, dtype=jnp.int32)
        # Those that are there stand first: each of the steps beside new responses gets as many of them.
        orders = places.reshape(steps, rows_of_step) if wish.consecutive else places.reshape(rows_of_step, steps).T
        goes = any_going(there)
        state, prepared = objective.prepare(memory.objective, drawn)
        metrics = memory.metrics(wish, size) | {"replay/drawn": jnp.sum(there).astype(jnp.float32)}
        rehearsal = cls(
            objective=objective,
            batch=prepared,
            orders=jnp.tile(orders, (epochs, 1)),
            weight=jnp.asarray(wish.weight, jnp.float32),
            goes=goes,
            beside=beside,
            consecutive=wish.consecutive,
        )
        return dataclasses.replace(memory, objective=state), rehearsal, metrics

    def part(self, index: Any) -> Rehearsal:
        """Of the rows at `index`, one of `orders`."""
        return dataclasses.replace(self, batch=self.batch.rows(index).as_step())

    @property
    def count(self) -> Array:
        """[] int32 how many responses there are."""
        return jnp.sum(jnp.any(self.batch.mask, axis=-1))

    def loss(self, model: LanguageModel, state: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
        """What is added to the loss of the new responses of a step.

        Where losses are averaged, a replayed response weighs `weight` times as much as one of the `beside` new ones,
        however many it has beside it.

        Args:
          model: that learns; gradients flow into it.
          state: of the objective.

        Returns:
          ([] 0 where there are none, (state, metrics)).
        """

        def learned(model: LanguageModel) -> tuple[Array, tuple[PyTree, Metrics]]:
            found = model.statistics(cast(Prompted, self.batch.context), cast(Array, self.batch.tokens))
            total, aux = self.objective(state, TokenOutputs(found.logp, found.entropy), self.batch)
            there = self.count
            share = there / self.beside if self._averages else 1.0
            after = jax.tree.map(lambda new, old: jnp.where(there > 0, new, old), aux.state, state)
            metrics = {name: jnp.where(there > 0, aux.metrics[theirs], 0.0) for name, theirs in _METRICS.items()}
            return self.weight * share * total, (after, metrics)

        def nothing(model: LanguageModel) -> tuple[Array, tuple[PyTree, Metrics]]:
            return jnp.zeros(()), (state, dict.fromkeys(_METRICS, jnp.zeros(())))

        found: tuple[Array, tuple[PyTree, Metrics]] = jax.lax.cond(self.goes, learned, nothing, model)
        return found

    @property
    def _averages(self) -> bool:
        (aggregate,) = (stage for stage in self.objective.stages if stage.slot == "aggregate")
        return cast(Aggregate, aggregate).averages
