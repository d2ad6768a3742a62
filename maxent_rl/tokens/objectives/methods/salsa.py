"""SALSA: the reference from which the divergence is counted is an average of the weights of several fine-tuned models.

The soup is made once (`maxent_rl.networks.soups.soup`), before reinforcement, and enters the divergence alone: the policy
begins at one of the models. As a reference it has a divergence from the policy from the first step on, and responses that
collect little of it are short ones, so that the weight must be smaller than that of a single model ("KL-hack").

The variant with several references in place of a soup takes the mean of their log-probabilities as `TokenBatch.logp_ref`; for
tabular logits the two have the same gradient.

Source: SALSA: Soup-based Alignment Learning for Stronger Adaptation in RLHF (arXiv 2411.01798). The form of the reward is the
usual one of PPO for language models; weights (of order 0.01 for a soup, 0.1 for one model) could not be confirmed.
"""

from __future__ import annotations

from maxent_rl.tokens.objectives.advantages import KLReward, WhitenedReturns
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped

PRESETS: dict[str, Preset] = {
    "salsa": Preset(
        "ppo with the divergence from a soup of models in its rewards",
        "SALSA, arXiv 2411.01798",
        (KLReward(kl_reward_weight=0.01), WhitenedReturns(), Clipped(), Aggregate()),
    ),
}
