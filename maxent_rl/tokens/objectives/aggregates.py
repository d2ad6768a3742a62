"""The aggregate stage: one number from the losses of all tokens (`losses.aggregate`)."""

from __future__ import annotations

from typing import ClassVar, Literal

from flax import struct

from maxent_rl import losses
from maxent_rl.losses.aggregation import Aggregation
from maxent_rl.settings import Positive, static
from maxent_rl.tokens.objectives.stage import Slot, Stage, Work
from maxent_rl.types import PyTree


@struct.dataclass
class Aggregate(Stage):
    """Averages the weighted losses and penalties of the valid tokens, and adds what stands beside that average."""

    slot: ClassVar[Slot] = "aggregate"
    aggregation: Aggregation = static("token-mean")
    """token-mean, seq-mean-token-mean, seq-mean-token-sum or seq-mean-token-sum-norm."""
    aggregation_length: Positive | None = None
    """The constant that seq-mean-token-sum-norm divides by, such as the length limit; None for the columns of the batch."""
    count_rows: Literal["valid", "all"] = static("valid")
    """Whether rows without a valid token count as rows (all: as in TRL)."""
    divide_rows: bool = static(False)
    """Divide seq-mean-token-sum-norm by the number of rows too (as in TRL)."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the total []."""
        loss = work.loss if work.weight is None else work.weight * work.loss
        total = losses.aggregate(
            loss + work.penalty,
            work.mask,
            self.aggregation,
            length=self.aggregation_length,
            rows=self.count_rows,
            divide_rows=self.divide_rows,
        )
        return state, work.replace(total=total + work.extra)
