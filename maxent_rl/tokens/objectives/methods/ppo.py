"""PPO on a critic's advantages, or without them on whitened returns.

Source: PPO (arXiv 1707.06347).
"""

from __future__ import annotations

from maxent_rl.tokens.objectives.advantages import WhitenedReturns
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped

PRESETS: dict[str, Preset] = {
    "ppo": Preset(
        "clipped surrogate on advantages that the caller gives (TokenBatch(advantages=[N, T])), or without them on whitened "
        "returns; ppo_critic makes them of a critic's values",
        "arXiv 1707.06347",
        (WhitenedReturns(), Clipped(), Aggregate()),
    ),
}
