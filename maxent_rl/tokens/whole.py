"""What the rows of a prepared batch are parts of: all responses that one optimiser step learns from.

A trainer may take the gradient of a step in slices. Each slice must then divide by what the whole step counts, and be
held to what was found in all its tokens: both travel with the rows, so that they are cut, moved and sharded as these are.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jax import Array


@struct.dataclass
class Whole:
    """The whole of an optimiser step, as each of its N rows knows it.

    Attributes:
      number: [N] int32 which response a row is; what is drawn at random for it is drawn by this number.
      adds: what each row adds to a count of the whole, by name, each [N]: "responses" (1 where the row came with a token),
        "drawn" (the tokens that it came with), "tokens" (in the loss), "sequences" (1 where the row has any of these), and
        what stages count besides.
      counts: the counts of the whole by name, each [N] and the same in every row; "longest" is that of the longest response
        of the prepared batch, in tokens, and stays.
      found: what stages found in all tokens of the whole (`Objective.survey`), by stage, each [N, T] or with further axes.
      rows: how many rows the whole has, those without tokens included.
    """

    number: Array
    adds: dict[str, Array]
    counts: dict[str, Array]
    found: dict[str, Array]
    rows: int = struct.field(pytree_node=False, default=0)  # type: ignore[no-untyped-call]

    @classmethod
    def begin(cls, mask: Array) -> Whole:
        """What is known of rows as they come, before a stage leaves any out: mask [N, T] bool."""
        lengths = jnp.sum(mask, axis=-1)
        longest = jnp.broadcast_to(jnp.max(lengths, initial=0), lengths.shape)
        adds = {"responses": (lengths > 0).astype(jnp.int32), "drawn": lengths}
        return cls(jnp.zeros_like(lengths), adds, {"longest": longest}, {})

    def counted(self, adds: dict[str, Array]) -> Whole:
        """With the rows numbered, and counted by what each of them adds."""
        number = jnp.maximum(jnp.cumsum(adds["responses"]) - 1, 0)
        longest = jnp.broadcast_to(self.count("longest"), number.shape)
        return Whole(number, adds, {"longest": longest}, {}).anew(adds["tokens"])

    def anew(self, lengths: Array) -> Whole:
        """The rows that are here as a whole of their own, with so many tokens [N] in the loss now, where there were any."""
        tokens = jnp.where(self.adds["tokens"] > 0, lengths, 0)
        adds = self.adds | {"tokens": tokens, "sequences": (tokens > 0).astype(jnp.int32)}
        sums = {name: jnp.broadcast_to(jnp.sum(values), values.shape) for name, values in adds.items()}
        return Whole(self.number, adds, self.counts | sums, {}, self.number.shape[0])

    def count(self, name: str) -> Array:
        """[] a count of the whole; rows that were filled up with zeros do not disturb it."""
        return jnp.max(self.counts[name], initial=0)
