"""REINFORCE against the mean of the group's others.

Source: Back to Basics (arXiv 2402.14740).
"""

from __future__ import annotations

from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped

PRESETS: dict[str, Preset] = {
    "rloo": Preset(
        "each reward against the mean of the group's others",
        "Back to Basics, arXiv 2402.14740",
        (GroupAdvantage("none", leave_one_out=True), Clipped(), Aggregate()),
    ),
}
