"""CRAFT-style: what CRAFT-GUI learns with, from problems in the order of their difficulty.

Two of its three parts are elsewhere: the curriculum is a source of prompts (`--prompts curriculum`), and the rewards are the
task's (`losses.gated_reward`, `losses.judged_reward`, as in `tokens/screen`). What is left is `grpo`: the groups are of one
prompt, and so of one kind of reward, and dividing by their deviations makes kinds comparable. A divergence from the initial
policy is optional, `kl_weight=0.001`. A response that the judge failed on has no finite reward and counts nowhere.

Source: after CRAFT-GUI (arXiv 2508.11360), of which nothing beyond the abstract could be confirmed.
"""

from __future__ import annotations

from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped

PRESETS: dict[str, Preset] = {
    "craft_gui": Preset(
        "CRAFT-style: grpo for a curriculum (--prompts curriculum), whose groups have rewards of one kind each",
        "CRAFT-GUI, arXiv 2508.11360 (a proposed form)",
        (GroupAdvantage(), Clipped(clip_low=0.2, clip_high=0.2), Aggregate()),
    ),
}
