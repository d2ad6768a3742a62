"""GKD: on-policy distillation, the divergence of Jensen and Shannon from a teacher on what the student wrote.

Source: On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes (arXiv 2306.13649).
"""

from __future__ import annotations

from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.distillation import Distillation
from maxent_rl.tokens.objectives.stage import Preset

PRESETS: dict[str, Preset] = {
    "gkd": Preset(
        "the divergence from a teacher on one's own responses, whatever they earn",
        "GKD, arXiv 2306.13649",
        (Distillation(), Aggregate()),
    ),
}
