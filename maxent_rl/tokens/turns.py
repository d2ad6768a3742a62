"""The turns of conversations in a batch: from tokens to turns and back, whatever stands between them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array


@struct.dataclass
class Turns:
    """Which turn each token [N, T] belongs to, of K at most in a conversation, K = T.

    A turn is what the model said at once. Turns of which no token counts do not exist: nobody's mean, and nobody's next turn.

    Attributes:
      number: [N, T] int32 the turn of each token that counts, from 0; K where one does not count.
      lengths: [N, K] int32 tokens of each turn.
    """

    number: Array
    lengths: Array

    @classmethod
    def of(cls, turns: Array, mask: Array) -> Turns:
        """Of `turns` [N, T] and the tokens that count, `mask` [N, T]; numbers need not be without gaps, from 0 and below T."""
        most = turns.shape[1]
        counts = jnp.asarray(mask, bool) & (turns >= 0) & (turns < most)
        number = jnp.where(counts, turns, most)
        return cls(number, _sums(counts.astype(jnp.int32), number))

    @property
    def there(self) -> Array:
        """[N, K] bool: which turns have a token that counts."""
        return self.lengths > 0

    @property
    def first(self) -> Array:
        """[N, T] bool: the first token of each turn that counts."""
        places = jnp.broadcast_to(jnp.arange(self.number.shape[1]), self.number.shape)

        def of_row(number: Array, places: Array) -> Array:
            return jnp.full(number.shape, number.shape[0]).at[number].min(places, mode="drop")

        begins = jnp.pad(jax.vmap(of_row)(self.number, places), ((0, 0), (0, 1)), constant_values=-1)
        return places == jnp.take_along_axis(begins, self.number, axis=1)

    @property
    def last(self) -> Array:
        """[N, K] bool: the last turn of each conversation."""
        return self.there & (jnp.cumsum(self.there[:, ::-1], axis=-1)[:, ::-1] == 1)

    def at_first(self, values: Array) -> Array:
        """[N, K] the values [N, T] at the first tokens of turns; 0 for turns that do not exist."""
        return self.total(jnp.where(self.first, values, 0))

    def total(self, values: Array) -> Array:
        """[N, K] sums over each turn's tokens of values [N, T]; 0 for turns that do not exist."""
        return _sums(values, self.number)

    def mean(self, values: Array) -> Array:
        """[N, K] means over each turn's tokens of values [N, T]; 0 for turns that do not exist."""
        return self.total(values) / jnp.maximum(self.lengths, 1)

    def spread(self, values: Array) -> Array:
        """[N, T] the value [N, K] of each token's turn; 0 at tokens that do not count."""
        return jnp.take_along_axis(jnp.pad(values, ((0, 0), (0, 1))), self.number, axis=1)

    def average(self, values: Array) -> Array:
        """[] the mean of values [N, K] over all turns of the batch, each counted once."""
        return jnp.sum(jnp.where(self.there, values, 0.0)) / jnp.maximum(jnp.sum(self.there), 1)

    def scaled(self, values: Array, epsilon: float) -> Array:
        """[N, K] values as shares of the way from the least of the batch to the largest; 0 for turns that do not exist."""
        least = jnp.min(values, where=self.there, initial=jnp.inf)
        largest = jnp.max(values, where=self.there, initial=-jnp.inf)
        return jnp.where(self.there, (values - least) / (largest - least + epsilon), 0.0)

    def next(self, values: Array) -> Array:
        """[N, K] the value [N, K] of the turn that comes next in the same conversation; 0 for the last one."""

        def back(later: Array, given: tuple[Array, Array]) -> tuple[Array, Array]:
            value, there = given
            return jnp.where(there, value, later), later

        nothing = jnp.zeros(values.shape[0])
        _, found = jax.lax.scan(back, nothing, (values.T, self.there.T), reverse=True)
        return jnp.where(self.there, found.T, 0.0)


def _sums(values: Array, number: Array) -> Array:
    """[N, T] the sums of values [N, T] by their number [N, T]; those numbered T are left out, whatever they are."""

    def of_row(values: Array, number: Array) -> Array:
        return jnp.zeros(values.shape, values.dtype).at[number].add(values, mode="drop")

    return jax.vmap(of_row)(values, number)
