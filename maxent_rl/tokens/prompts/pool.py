"""A pool of problems that are posed again: those that still teach something, or a fixed set."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Count, Fraction
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.prompts.ring import Ring
from maxent_rl.tokens.prompts.source import Answer, Posed, PromptSource
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.writing import PAD_TOKEN
from maxent_rl.types import Array, Metrics, PyTree, Spec


@struct.dataclass
class PoolState:
    """What a pool is.

    Attributes:
      ring: of problems [C, Q], or wider, padded on the left.
      step: [] int32 iterations so far.
      begun: [] bool: whether the pool has been filled with what it begins with.
    """

    ring: Ring
    step: Array
    begun: Array


@dataclasses.dataclass(frozen=True)
class PoolPrompts(PromptSource):
    """A share of the prompts comes from a pool, the rest, and what the pool does not have, from the task.

    A problem enters the pool where some of its responses were right and some were not (`keep`), and leaves it when it is
    posed, too old, or when the pool is full and it is the oldest. With `keep=none` and `filled` it is a fixed set of problems,
    drawn from with replacement.
    """

    name: ClassVar[str] = "pool"
    poses_as_written: ClassVar[bool] = True

    capacity: Count = 256
    """Problems that the pool holds."""
    share: Fraction = 0.5
    """Share of the prompts of an iteration that come from the pool, rounded; the others are new ones of the task."""
    staleness: Count | None = None
    """Iterations after which a problem leaves the pool; None for no limit."""
    keep: Literal["mixed", "all", "none"] = "mixed"
    """Which problems enter: those whose responses have different rewards, all, or none."""
    filled: bool = False
    """Whether the pool begins full, of problems of the task."""

    def check(self, task: TokenTask[Any]) -> None:
        """Refuses a pool that is never anything but empty.

        Raises:
          InvalidSettingError: it is.
        """
        if self.keep == "none" and not self.filled:
            raise InvalidSettingError(
                "A pool that keeps none and does not begin filled stays empty: set filled=true or keep."
            )
        if self.keep == "none" and self.staleness is not None:
            raise InvalidSettingError(
                "A pool that keeps none is empty for good after its staleness: leave out one of them."
            )

    def init(self, key: Array, spec: Spec) -> PoolState:
        """An empty pool; it is filled, where it is to be, at the first draw."""
        ring = Ring.create(self.capacity, jnp.zeros(spec.observation_shape, jnp.int32))
        return PoolState(ring, jnp.zeros((), jnp.int32), jnp.zeros((), bool))

    def draw(self, task: TokenTask[Any], state: PoolState, key: Array, count: int) -> tuple[PoolState, Posed]:
        """Draws from the pool what it has, up to the share; the new ones are those that the task draws with the key."""
        fresh, _ = task.prompts(key, count)
        fill_key, place_key = (jax.random.fold_in(key, stream) for stream in (0x9001F111, 0x90019ACE))
        ring = state.ring
        if self.filled:
            everything = jnp.ones(self.capacity, bool)
            ring = jax.lax.cond(
                state.begun,
                lambda: ring,
                lambda: ring.pushed(_as_wide(task.prompts(fill_key, self.capacity)[0], ring), everything, state.step),
            )
        ring = ring.without_old(state.step, self.staleness)
        number = round(count * self.share)
        if self.keep == "none":
            places, there = ring.sampled(place_key, number)
        else:
            places, there = ring.oldest(number)
        again = ring.at(places)[:, -fresh.shape[1] :]
        problems = fresh.at[:number].set(jnp.where(there[:, None], again, fresh[:number]))
        ages = jnp.where(there, state.step - ring.steps[places], -1)
        if self.keep != "none":
            ring = ring.without(places, there)
        notes = {"age": jnp.pad(ages, (0, count - number), constant_values=-1).astype(jnp.int32)}
        return PoolState(ring, state.step, jnp.ones((), bool)), Posed(problems, problems != PAD_TOKEN, None, notes)

    def feedback(
        self,
        task: TokenTask[Any],
        state: PoolState,
        key: Array,
        batch: TokenBatch,
        own: Array,
        notes: PyTree,
        answer: Answer,
    ) -> tuple[PoolState, TokenBatch, Metrics]:
        """Takes in the problems that are to be posed again, in the order of the batch."""
        size = batch.group_size
        rows = own.shape[0] * size
        rewards = batch.outcomes[:rows].reshape(-1, size)
        context: Any = batch.context
        problems = context.checked[:rows:size]
        mixed = jnp.max(rewards, axis=-1) > jnp.min(rewards, axis=-1)
        enters = {"mixed": mixed, "all": jnp.ones_like(mixed), "none": jnp.zeros_like(mixed)}[self.keep] & own
        ring = state.ring.pushed(_as_wide(problems, state.ring), enters, state.step)
        posed_again = own & (notes["age"] >= 0)
        metrics = {
            "prompts/pooled": jnp.mean(ring.filled.astype(jnp.float32)),
            "prompts/again": jnp.sum(posed_again) / jnp.maximum(jnp.sum(own), 1),
            "prompts/age": jnp.sum(jnp.where(posed_again, notes["age"], 0)) / jnp.maximum(jnp.sum(posed_again), 1),
        }
        return PoolState(ring, state.step + 1, state.begun), batch, metrics


def _as_wide(problems: Array, ring: Ring) -> Array:
    """Problems, padded on the left to what the ring has room for: of a conversation, also for what is said."""
    return jnp.pad(problems, ((0, 0), (ring.entries.shape[-1] - problems.shape[-1], 0)))
