"""The aggregate stage: one number from the losses of all tokens (`losses.aggregate`)."""

from __future__ import annotations

from typing import ClassVar, Literal

import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.losses.aggregation import Aggregation
from maxent_rl.settings import Positive, static
from maxent_rl.tokens.batch import TokenBatch, responses
from maxent_rl.tokens.objectives.stage import Slot, Stage, Work
from maxent_rl.types import PyTree


@struct.dataclass
class Aggregate(Stage):
    """Averages the weighted losses and penalties of the valid tokens, and adds what stands beside that average.

    What it divides by is counted in the whole step (`TokenBatch.count`), whatever part of it there is, and a part of n of
    its N rows weighs N / n times as much: the mean over equal parts is the whole's, of a plain sum (token-sum) and of one over
    a constant length too.
    """

    slot: ClassVar[Slot] = "aggregate"
    aggregation: Aggregation = static("token-mean")
    """token-mean, token-sum (divided by nothing), seq-mean-token-mean, seq-mean-token-sum or seq-mean-token-sum-norm."""
    aggregation_length: Positive | None = None
    """The constant that seq-mean-token-sum-norm divides by, such as the length limit; None for the longest response of the
    batch: set it where the scale of the loss is to be the same from batch to batch."""
    count_rows: Literal["valid", "all"] = static("valid")
    """Whether responses that were left out of the loss count as rows (all: as in TRL); rows without tokens are none."""
    divide_rows: bool = static(False)
    """Divide seq-mean-token-sum-norm by the number of rows too (as in TRL, and in verl since 2026)."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the total []."""
        loss = work.loss if work.weight is None else work.weight * work.loss
        batch, length = work.batch, self.aggregation_length
        total = losses.aggregate(
            loss + work.penalty,
            work.mask,
            self.aggregation,
            count=batch.count("tokens", jnp.sum(work.mask)),
            num_rows=self.num_rows(work),
            length=jnp.maximum(batch.longest, 1) if length is None else length,
            divide_rows=self.divide_rows,
        )
        return state, work.replace(total=of_part(total, batch) + work.extra)

    @property
    def averages(self) -> bool:
        """Whether it divides by how many rows or tokens there are, so that more of them weigh less each."""
        sums = self.aggregation == "token-sum", self.aggregation == "seq-mean-token-sum-norm" and not self.divide_rows
        return not any(sums)

    def num_rows(self, work: Work) -> Array:
        """[] rows of the step that count as such."""
        if self.count_rows == "all":
            return work.batch.count("responses", jnp.sum(responses(work.batch)))
        return work.batch.count("sequences", jnp.sum(jnp.any(work.mask, axis=-1)))


def of_part(total: Array, batch: TokenBatch) -> Array:
    """[] what the tokens of a part add to the whole, as a mean over equal parts needs it: over its share of the rows."""
    return total if batch.share in (0.0, 1.0) else total / batch.share
