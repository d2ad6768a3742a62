"""Who belongs together: sums over the responses to one prompt, wherever they stand and however many there are.

A group has the number of its first response, counted over the responses of the batch alone: rows that are filled up, and
whatever stands in them, change nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from maxent_rl import losses
from maxent_rl.tokens.batch import TokenBatch, responses


class Grouping(NamedTuple):
    """The groups of a batch, among the responses that have a reward.

    Attributes:
      valid: [N] bool: rows that are such responses.
      response: [N] int32: which response of the batch each row is; what is drawn at random for it is drawn by this.
      group: [N] int32 from 0 to N - 1, equal within a group, in the order of their first responses, with gaps between; N
        where not valid.
    """

    valid: Array
    response: Array
    group: Array

    @classmethod
    def of(cls, batch: TokenBatch) -> Grouping:
        """The groups of a batch: the responses to each prompt."""
        if batch.group_index is None:
            return cls._numbered(batch, jnp.arange(batch.mask.shape[0]) // batch.group_size)
        return cls.by(batch, batch.group_index)

    @classmethod
    def by(cls, batch: TokenBatch, labels: Array) -> Grouping:
        """Those with equal labels [N], whole numbers, as a group."""
        _, member = jnp.unique(labels, return_inverse=True, size=batch.mask.shape[0])
        return cls._numbered(batch, member)

    @classmethod
    def _numbered(cls, batch: TokenBatch, member: Array) -> Grouping:
        valid, rows = batch.scored, batch.mask.shape[0]
        number = jnp.maximum(jnp.cumsum(responses(batch)) - 1, 0).astype(jnp.int32)
        first = jax.ops.segment_min(jnp.where(valid, number, rows), member, rows)[member]
        return cls(valid, number, jnp.where(valid, first, rows).astype(jnp.int32))

    @property
    def size(self) -> Array:
        """[N] responses in each row's group."""
        return self.total(jnp.ones(self.valid.shape))

    @property
    def first(self) -> Array:
        """[N] bool: the first response of each group, one row for each."""
        return self.valid & (self.response == self.group)

    def total(self, values: Array) -> Array:
        """[N] the sum of the values [N] over each row's group; 0 where not valid."""
        return self.gathered(self.summed(values))

    def mean(self, values: Array) -> Array:
        """[N] their mean; 0 where not valid."""
        return self.total(values) / jnp.maximum(self.size, 1)

    def largest(self, values: Array) -> Array:
        """[N] the largest of them; 0 where not valid."""
        rows = self.valid.shape[0]
        found = jax.ops.segment_max(jnp.where(self.valid, values, -jnp.inf), self.group, rows + 1)[self.group]
        return jnp.where(self.valid, found, 0.0)

    def deviation(self, values: Array, ddof: int = 1) -> Array:
        """[N] the standard deviation of the values [N] in each row's group; 0 where they are equal but for rounding.

        0 too for a group of not more than `ddof` responses, and where not valid.
        """
        values = jnp.where(self.valid, values, 0.0)
        # Differences first: what their squares lose is less than they are.
        below = values - self.largest(values)
        centred = losses.without_rounding(below - self.mean(below), self.largest(jnp.abs(values)))
        spread = jnp.sqrt(self.total(centred**2) / jnp.maximum(self.size - ddof, 1))
        return jnp.where(self.size > ddof, spread, 0.0)

    def place(self, values: Array) -> Array:
        """[N] int32 the place of each row in its group, by the values [N], from 0; of equal ones the first comes first."""
        rows = self.valid.shape[0]
        order = jnp.lexsort((self.response, values, self.group))
        rank = jnp.zeros(rows, jnp.int32).at[order].set(jnp.arange(rows, dtype=jnp.int32))
        return rank - jax.ops.segment_min(rank, self.group, rows + 1)[self.group]

    def agreeing(self, answers: Array, own: Array | None = None) -> Array:
        """[N] how many responses of its group give the same answer [N] as each row, itself included; 0 where not valid.

        Args:
          answers: [N] whole numbers.
          own: [N] bool: rows that agree with nobody, whatever their answer is.
        """
        rows = self.valid.shape[0]
        alone = jnp.zeros(rows, bool) if own is None else own
        return self.among_equals(jnp.ones(rows), answers, jnp.where(alone, self.response, -1))

    def among_equals(self, values: Array, *keys: Array) -> Array:
        """[N] the sum of the values [N] over the rows of its group with the same keys, [N] each; 0 where not valid."""
        label = numbered(*keys, self.group)
        totals = jax.ops.segment_sum(jnp.where(self.valid, values, 0.0), label, self.valid.shape[0])[label]
        return jnp.where(self.valid, totals, 0.0)

    def summed(self, values: Array) -> Array:
        """[N + 1] the sum of the values [N] of each group, by its number."""
        rows = self.valid.shape[0]
        return jax.ops.segment_sum(jnp.where(self.valid, values, 0.0), self.group, rows + 1)

    def gathered(self, by_group: Array) -> Array:
        """[N] what its group has, of values [N + 1] by number; 0 where not valid."""
        return jnp.where(self.valid, by_group[self.group], 0)


def numbered(*keys: Array) -> Array:
    """[M] int32 from 0 to M - 1, equal where all keys [M] are equal."""
    # Equal ones stand next to each other in this order; each run of them has a number.
    order = jnp.lexsort(keys)
    new = jnp.zeros(order.shape, bool)
    for key in keys:
        in_order = key[order]
        new = new | jnp.concatenate([jnp.zeros(1, bool), in_order[1:] != in_order[:-1]])
    return jnp.zeros(order.shape, jnp.int32).at[order].set(jnp.cumsum(new).astype(jnp.int32))


def differences(batch: TokenBatch) -> tuple[Grouping, Array]:
    """The groups, and how far each reward [N] lies below its group's best: sums of these lose less than they are."""
    groups = Grouping.of(batch)
    rewards = jnp.where(groups.valid, batch.outcomes, 0.0)
    return groups, jnp.where(groups.valid, rewards - groups.largest(rewards), 0.0)


def as_advantages(batch: TokenBatch, groups: Grouping, centred: Array) -> Array:
    """Centred rewards [N] without rounding; a response that is alone keeps its reward, one without a reward has 0."""
    rewards = jnp.where(groups.valid, batch.outcomes, 0.0)
    found = losses.without_rounding(centred, groups.largest(jnp.abs(rewards)))
    return jnp.where(groups.valid, jnp.where(groups.size == 1, rewards, found), 0.0)
