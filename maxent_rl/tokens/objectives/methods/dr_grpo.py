"""GRPO without what favours long wrong responses and easy prompts.

Source: Dr. GRPO (arXiv 2503.20783).
"""

from __future__ import annotations

from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped

PRESETS: dict[str, Preset] = {
    "dr_grpo": Preset(
        "no standard deviation, and a constant in place of the length",
        "Dr. GRPO, arXiv 2503.20783",
        (
            GroupAdvantage("none"),
            Clipped(),
            Aggregate("seq-mean-token-sum-norm", count_rows="all", divide_rows=True),  # as TRL, and verl since 2026
        ),
    ),
}
