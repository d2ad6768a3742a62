"""Losses: pure functions of arrays, one value per element, reduced by the caller.

They know no networks, optimisers or environments, so a loss can be taken into any other trainer.
"""

from maxent_rl.losses.advantages import clipped_value_loss, generalized_advantages
from maxent_rl.losses.policy_gradient import clipped_surrogate, importance_ratio, soft_policy_loss
from maxent_rl.losses.router import gumbel_softmax, router_exact_loss, router_frequency_loss, router_score_loss
from maxent_rl.losses.soft_bellman import critic_loss, soft_bellman_target, soft_value
from maxent_rl.losses.temperature import temperature_loss, temperature_loss_dual

__all__ = [
    "clipped_surrogate",
    "clipped_value_loss",
    "critic_loss",
    "generalized_advantages",
    "gumbel_softmax",
    "importance_ratio",
    "router_exact_loss",
    "router_frequency_loss",
    "router_score_loss",
    "soft_bellman_target",
    "soft_policy_loss",
    "soft_value",
    "temperature_loss",
    "temperature_loss_dual",
]
