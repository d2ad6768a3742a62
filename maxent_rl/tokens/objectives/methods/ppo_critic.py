"""PPO with a critic over tokens, as reinforcement learning from human feedback began; `ppo` is the same without one.

Source: PPO (arXiv 1707.06347); Fine-Tuning Language Models from Human Preferences (arXiv 1909.08593).
"""

from __future__ import annotations

from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.critics import CriticAdvantage, CriticLoss
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped

PRESETS: dict[str, Preset] = {
    "ppo_critic": Preset(
        "clipped surrogate on the generalized advantages of a critic over tokens, which learns beside the policy",
        "arXiv 1707.06347",
        (CriticAdvantage(), Clipped(), CriticLoss(), Aggregate()),
    ),
}

# What TRL's and verl's PPO call its settings.
ELSEWHERE: dict[str, str] = {
    "lam": "trace_decay, of ppo_critic and vapo",
    "vf_coef": "value_weight, of ppo_critic and vapo",
    "cliprange_value": "value_clip, of ppo_critic and vapo",
    "critic_warmup": "--critic-warm-start-steps of our own trainer",
}
