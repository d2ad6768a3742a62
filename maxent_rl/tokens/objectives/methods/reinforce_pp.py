"""Returns whitened over all tokens of the batch, without groups.

Source: REINFORCE++ (arXiv 2501.03262).
"""

from __future__ import annotations

from maxent_rl.tokens.objectives.advantages import WhitenedReturns
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped

PRESETS: dict[str, Preset] = {
    "reinforce_pp": Preset(
        "returns whitened over all tokens of the batch, without groups",
        "REINFORCE++, arXiv 2501.03262",
        (WhitenedReturns(), Clipped(), Aggregate()),
    ),
}
