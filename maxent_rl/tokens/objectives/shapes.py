"""What shape stages are: stages that set the weight, the mask or the advantage of single tokens."""

from __future__ import annotations

from typing import ClassVar

from maxent_rl.tokens.objectives.stage import Slot, Stage


class Shape(Stage):
    """A stage that shapes what the surrogate makes of single tokens."""

    slot: ClassVar[Slot] = "shape"
