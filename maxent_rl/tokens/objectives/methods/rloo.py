"""REINFORCE against the mean of the group's others, with the whole response as one action.

Source: Back to Basics (arXiv 2402.14740); the clip is that of TRL's trainer, the paper takes one step on each batch. verl
has the advantages alone, and clips token by token: `make("rloo", sequence_ratio=False, aggregation="token-mean")`.
"""

from __future__ import annotations

from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped

PRESETS: dict[str, Preset] = {
    "rloo": Preset(
        "each reward against the mean of the group's others; the response is one action, whose ratio is clipped (TRL's form)",
        "Back to Basics, arXiv 2402.14740",
        (
            GroupAdvantage("none", leave_one_out=True),
            Clipped(sequence_ratio=True, ratio_product=True),
            Aggregate("seq-mean-token-mean", count_rows="all"),
        ),
    ),
}
