"""GSPO whose responses count by their lengths, so that long ones do not lose.

Source: LUSPO, length-unbiased sequence policy optimisation, in the form and with the bounds of TRL's trainer.
"""

from __future__ import annotations

from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped

PRESETS: dict[str, Preset] = {
    "luspo": Preset(
        "the clipped ratio of the whole response, times its length (TRL's form)",
        "LUSPO",
        (
            GroupAdvantage(group_epsilon=1e-4),
            Clipped(clip_low=2e-3, clip_high=2.5e-3, sequence_ratio=True),
            Aggregate("seq-mean-token-sum", count_rows="all"),
        ),
    ),
}
