"""Losses: pure functions of arrays, one value per element, reduced by the caller.

They know no networks, optimisers or environments, so a loss can be taken into any other trainer.
"""

from maxent_rl.losses.policy_gradient import soft_policy_loss
from maxent_rl.losses.soft_bellman import critic_loss, soft_bellman_target, soft_value
from maxent_rl.losses.temperature import temperature_loss, temperature_loss_dual

__all__ = [
    "critic_loss",
    "soft_bellman_target",
    "soft_policy_loss",
    "soft_value",
    "temperature_loss",
    "temperature_loss_dual",
]
