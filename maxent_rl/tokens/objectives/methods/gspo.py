"""The ratio of the whole response is clipped.

Source: GSPO (arXiv 2507.18071).
"""

from __future__ import annotations

from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped

PRESETS: dict[str, Preset] = {
    "gspo": Preset(
        "the ratio of the whole response is clipped",
        "GSPO, arXiv 2507.18071",
        (
            GroupAdvantage(),
            Clipped(clip_low=3e-4, clip_high=4e-4, sequence_ratio=True),
            Aggregate("seq-mean-token-mean"),
        ),
    ),
}
