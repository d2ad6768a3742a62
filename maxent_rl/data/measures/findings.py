"""What the findings on data sets say of methods: a line for each place in the plane of TQ and SACo.

Source: A Dataset Perspective on Offline Reinforcement Learning (arXiv 2111.04714), 150 data sets and nine methods.
"""

from __future__ import annotations

import math

HIGH, MODERATE = 0.7, 0.4
"""From where TQ or SACo is called high or moderate. Ours: the paper draws no lines."""


def favoured(tq: float, saco: float) -> str:
    """Which family of methods the paper's findings favour, in one line.

    The findings: cloning (BC) needs high TQ; the DQN family (DQN, QR-DQN, REM) needs high SACo; methods that constrain the
    policy to the data (BCQ, CQL, CRR) work with high TQ, with high SACo, or with moderate values of both. "High" is from 0.7
    on and "moderate" from 0.4 on: the paper gives no numbers, these are ours, and nothing changes at once at them.

    Args:
      tq: trajectory quality; NaN where it is not known.
      saco: state-action coverage; NaN where it is not known.
    """
    if math.isnan(tq) and math.isnan(saco):
        return "Nothing can be said of methods: neither TQ nor SACo is known."
    if math.isnan(tq) or math.isnan(saco):
        return _favoured_by_one(tq, saco)
    place = f"TQ {tq:.2f} ({_level(tq)}), SACo {saco:.2f} ({_level(saco)})"
    if tq >= HIGH and saco >= HIGH:
        return f"{place}: the paper's findings favour any of BC, the constrained methods (BCQ, CQL, CRR) and the DQN family."
    if tq >= HIGH:
        return (
            f"{place}: the paper's findings favour BC and the constrained methods (BCQ, CQL, CRR), not the DQN family."
        )
    if saco >= HIGH:
        return (
            f"{place}: the paper's findings favour the DQN family and the constrained methods (BCQ, CQL, CRR), not BC."
        )
    if tq >= MODERATE and saco >= MODERATE:
        return (
            f"{place}: the paper's findings favour the constrained methods (BCQ, CQL, CRR) over BC and the DQN family."
        )
    return f"{place}: the paper's findings favour no method here; constrained ones (BCQ, CQL, CRR) risk least."


def _favoured_by_one(tq: float, saco: float) -> str:
    """The same where one of both is not known."""
    constrained = "the constrained methods (BCQ, CQL, CRR)"
    if math.isnan(saco):
        judged = f"BC and {constrained} have what they need" if tq >= HIGH else "BC lacks what it needs"
        place, other, unjudged = f"TQ {tq:.2f} ({_level(tq)})", "SACo", "the DQN family"
    else:
        enough, lacking = f"the DQN family and {constrained} have what they need", "the DQN family lacks what it needs"
        judged = enough if saco >= HIGH else lacking
        place, other, unjudged = f"SACo {saco:.2f} ({_level(saco)})", "TQ", "BC"
    return f"{place}, {other} unknown: by the paper's findings {judged}; of {unjudged} nothing can be said."


def _level(value: float) -> str:
    return "high" if value >= HIGH else "moderate" if value >= MODERATE else "low"
