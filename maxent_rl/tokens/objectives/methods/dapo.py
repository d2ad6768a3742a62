"""GRPO with a wider upper clip, dynamic sampling and overlong shaping.

Source: DAPO (arXiv 2503.14476).
"""

from __future__ import annotations

from maxent_rl.tokens.objectives.advantages import DynamicSampling, GroupAdvantage, OverlongPenalty
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped

PRESETS: dict[str, Preset] = {
    "dapo": Preset(
        "grpo with a wider upper clip, no uniform groups, and a penalty near the length limit, where overlong_limit says it",
        "DAPO, arXiv 2503.14476",
        (
            DynamicSampling(),
            OverlongPenalty(),
            GroupAdvantage(),
            Clipped(clip_low=0.2, clip_high=0.28),
            Aggregate(),
        ),
    ),
}
