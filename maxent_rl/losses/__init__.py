"""Losses: pure functions of arrays, one value per element, reduced by the caller.

They know no networks, optimisers or environments, so a loss can be taken into any other trainer.
"""

from maxent_rl.losses.advantages import clipped_value_loss, generalized_advantages
from maxent_rl.losses.aggregation import aggregate, masked_deviation, masked_mean, masked_quantile
from maxent_rl.losses.anchored import (
    anchored_logits,
    anchored_loss,
    anchored_pair_loss,
    falling_temperature,
    plackett_luce_loss,
    smooth_temperature,
)
from maxent_rl.losses.candidate_targets import kde_target, rank_target, softmax_target, teacher_over_anchor_target
from maxent_rl.losses.divergence import kl_estimate
from maxent_rl.losses.entropy import (
    covariance_contribution,
    entropy_change,
    entropy_discriminant,
    entropy_gradient,
    expected_discriminant,
    policy_gradient_step,
    softmax_entropy,
)
from maxent_rl.losses.groups import group_advantages, whiten
from maxent_rl.losses.policy_gradient import clipped_away, clipped_surrogate, importance_ratio, soft_policy_loss
from maxent_rl.losses.preference import logistic_loss
from maxent_rl.losses.ranking import normalized_discounted_gain
from maxent_rl.losses.router import gumbel_softmax, router_exact_loss, router_frequency_loss, router_score_loss
from maxent_rl.losses.soft_bellman import critic_loss, soft_bellman_target, soft_value
from maxent_rl.losses.temperature import damped_temperature, temperature_loss, temperature_loss_dual

__all__ = [
    "aggregate",
    "anchored_logits",
    "anchored_loss",
    "anchored_pair_loss",
    "clipped_away",
    "clipped_surrogate",
    "clipped_value_loss",
    "covariance_contribution",
    "critic_loss",
    "damped_temperature",
    "entropy_change",
    "entropy_discriminant",
    "entropy_gradient",
    "expected_discriminant",
    "falling_temperature",
    "generalized_advantages",
    "group_advantages",
    "gumbel_softmax",
    "importance_ratio",
    "kde_target",
    "kl_estimate",
    "logistic_loss",
    "masked_deviation",
    "masked_mean",
    "masked_quantile",
    "normalized_discounted_gain",
    "plackett_luce_loss",
    "policy_gradient_step",
    "rank_target",
    "router_exact_loss",
    "router_frequency_loss",
    "router_score_loss",
    "smooth_temperature",
    "soft_bellman_target",
    "soft_policy_loss",
    "soft_value",
    "softmax_entropy",
    "softmax_target",
    "teacher_over_anchor_target",
    "temperature_loss",
    "temperature_loss_dual",
    "whiten",
]
