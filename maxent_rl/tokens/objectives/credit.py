"""What credit stages are: stages that spread the outcome of a response over its steps, its tokens, or the other answers."""

from __future__ import annotations

from typing import ClassVar

from maxent_rl.tokens.objectives.stage import Slot, Stage


class Credit(Stage):
    """A stage that says whose merit an advantage is.

    Its `prepare` runs once for each batch, after the advantages are there, whether the objective made them of rewards or the
    caller gave them, and before any token is shaped: it reads them by `token_advantages(batch)` [N, T] and sets
    `batch.advantages`.
    """

    slot: ClassVar[Slot] = "credit"
