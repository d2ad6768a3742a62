"""Rewards against those of the other responses to the prompt, in verl's and in TRL's form.

Source: DeepSeekMath (arXiv 2402.03300).
"""

from __future__ import annotations

from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped

PRESETS: dict[str, Preset] = {
    "grpo": Preset(
        "rewards normalised within the group, clipped surrogate, token mean (verl's form)",
        "DeepSeekMath, arXiv 2402.03300",
        (GroupAdvantage(), Clipped(), Aggregate()),
    ),
    "grpo_trl": Preset(
        "grpo with 1e-4 beside the standard deviation and every response weighing the same (TRL's loss type grpo)",
        "DeepSeekMath, arXiv 2402.03300",
        (GroupAdvantage(group_epsilon=1e-4), Clipped(), Aggregate("seq-mean-token-mean", count_rows="all")),
    ),
}
