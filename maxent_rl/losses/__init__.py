"""Losses: pure functions of arrays, one value per element, reduced by the caller.

They know no networks, optimisers or environments, so a loss can be taken into any other trainer.
"""

from maxent_rl.losses.absolute_preference import apo_down_loss, apo_zero_loss, bco_loss, nca_loss, sppo_loss
from maxent_rl.losses.advantage_weighted import advantage_weight, weighted_cloning_loss
from maxent_rl.losses.advantages import (
    accumulated_rewards,
    clipped_value_loss,
    generalized_advantages,
    lambda_returns,
    length_trace_decay,
    response_advantages,
    soft_reward,
)
from maxent_rl.losses.aggregation import aggregate, masked_deviation, masked_mean, masked_quantile
from maxent_rl.losses.anchored import (
    anchored_logits,
    anchored_loss,
    anchored_pair_loss,
    falling_temperature,
    plackett_luce_loss,
    smooth_temperature,
)
from maxent_rl.losses.behavior_regularized import behavior_regularized_loss, smoothed_action
from maxent_rl.losses.candidate_targets import kde_target, rank_target, softmax_target, teacher_over_anchor_target
from maxent_rl.losses.categorical_values import (
    categorical_value_loss,
    expected_value,
    gaussian_histogram,
    project_onto_support,
    soft_categorical_target,
    support,
    two_hot,
)
from maxent_rl.losses.conservative import better_than_policy, conservative_penalty, likely_choices
from maxent_rl.losses.conservative_sampled import sampled_conservative_gap, sampled_soft_maximum
from maxent_rl.losses.contrastive import (
    contrastive_loss,
    contrastive_ranking_loss,
    segment_score,
    squared_error_log_prob,
)
from maxent_rl.losses.controllers import proportional_weight, stepped_weight
from maxent_rl.losses.dichotomy import energy_term, reverse_gradient
from maxent_rl.losses.differential_information import (
    best_rejected,
    differential_information,
    differential_information_entropy,
    preference_probability,
    projected_ascent,
    sampled_differential_information_entropy,
)
from maxent_rl.losses.divergence import kl_estimate
from maxent_rl.losses.entropy import (
    covariance_contribution,
    entropy_change,
    entropy_discriminant,
    entropy_gradient,
    expected_discriminant,
    policy_gradient_step,
    probability_entropy,
    softmax_entropy,
)
from maxent_rl.losses.expectile import expectile_loss
from maxent_rl.losses.groups import differing_groups, group_advantages, others_advantages, whiten
from maxent_rl.losses.optimism import optimistic_value, shift_divergence
from maxent_rl.losses.policy_gradient import (
    clipped_away,
    clipped_surrogate,
    importance_ratio,
    policy_gradient_loss,
    soft_policy_loss,
)
from maxent_rl.losses.precision import at_least_single, held_within, in_single_precision
from maxent_rl.losses.preference import (
    cpo_loss,
    dpo_loss,
    exo_loss,
    hinge_loss,
    implicit_reward,
    ipo_loss,
    kto_baseline,
    kto_loss,
    logistic_loss,
    orpo_loss,
    preference_margin,
    robust_dpo_loss,
    rpo_loss,
    simpo_loss,
)
from maxent_rl.losses.preference_rewards import (
    alpha_reward,
    discopop_loss,
    divergence_reward,
    on_policy_weight,
    sorted_margin,
)
from maxent_rl.losses.quantile_regression import (
    kept_quantiles,
    mean_quantile_huber_loss,
    quantile_huber_loss,
    quantile_midpoints,
    soft_quantile_target,
)
from maxent_rl.losses.ranking import normalized_discounted_gain
from maxent_rl.losses.rounding import apart, rounding_of, without_rounding
from maxent_rl.losses.router import gumbel_softmax, router_exact_loss, router_frequency_loss, router_score_loss
from maxent_rl.losses.soft_bellman import critic_loss, soft_bellman_target, soft_value
from maxent_rl.losses.temperature import damped_temperature, temperature_loss, temperature_loss_dual
from maxent_rl.losses.temporal_difference import (
    bellman_target,
    double_q_value,
    huber,
    taken_value,
    temporal_difference_loss,
)

__all__ = [
    "accumulated_rewards",
    "advantage_weight",
    "aggregate",
    "alpha_reward",
    "anchored_logits",
    "anchored_loss",
    "anchored_pair_loss",
    "apart",
    "apo_down_loss",
    "apo_zero_loss",
    "at_least_single",
    "bco_loss",
    "behavior_regularized_loss",
    "bellman_target",
    "best_rejected",
    "better_than_policy",
    "categorical_value_loss",
    "clipped_away",
    "clipped_surrogate",
    "clipped_value_loss",
    "conservative_penalty",
    "contrastive_loss",
    "contrastive_ranking_loss",
    "covariance_contribution",
    "cpo_loss",
    "critic_loss",
    "damped_temperature",
    "differential_information",
    "differential_information_entropy",
    "differing_groups",
    "discopop_loss",
    "divergence_reward",
    "double_q_value",
    "dpo_loss",
    "energy_term",
    "entropy_change",
    "entropy_discriminant",
    "entropy_gradient",
    "exo_loss",
    "expected_discriminant",
    "expected_value",
    "expectile_loss",
    "falling_temperature",
    "gaussian_histogram",
    "generalized_advantages",
    "group_advantages",
    "gumbel_softmax",
    "held_within",
    "hinge_loss",
    "huber",
    "implicit_reward",
    "importance_ratio",
    "in_single_precision",
    "ipo_loss",
    "kde_target",
    "kept_quantiles",
    "kl_estimate",
    "kto_baseline",
    "kto_loss",
    "lambda_returns",
    "length_trace_decay",
    "likely_choices",
    "logistic_loss",
    "masked_deviation",
    "masked_mean",
    "masked_quantile",
    "mean_quantile_huber_loss",
    "nca_loss",
    "normalized_discounted_gain",
    "on_policy_weight",
    "optimistic_value",
    "orpo_loss",
    "others_advantages",
    "plackett_luce_loss",
    "policy_gradient_loss",
    "policy_gradient_step",
    "preference_margin",
    "preference_probability",
    "probability_entropy",
    "project_onto_support",
    "projected_ascent",
    "proportional_weight",
    "quantile_huber_loss",
    "quantile_midpoints",
    "rank_target",
    "response_advantages",
    "reverse_gradient",
    "robust_dpo_loss",
    "rounding_of",
    "router_exact_loss",
    "router_frequency_loss",
    "router_score_loss",
    "rpo_loss",
    "sampled_conservative_gap",
    "sampled_differential_information_entropy",
    "sampled_soft_maximum",
    "segment_score",
    "shift_divergence",
    "simpo_loss",
    "smooth_temperature",
    "smoothed_action",
    "soft_bellman_target",
    "soft_categorical_target",
    "soft_policy_loss",
    "soft_quantile_target",
    "soft_reward",
    "soft_value",
    "softmax_entropy",
    "softmax_target",
    "sorted_margin",
    "sppo_loss",
    "squared_error_log_prob",
    "stepped_weight",
    "support",
    "taken_value",
    "teacher_over_anchor_target",
    "temperature_loss",
    "temperature_loss_dual",
    "temporal_difference_loss",
    "two_hot",
    "weighted_cloning_loss",
    "whiten",
    "without_rounding",
]
