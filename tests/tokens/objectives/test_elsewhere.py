"""Configurations of other trainers: the loss is that of the preset which is theirs; what is read, and what is left."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from token_batches import loss_of, responses

from maxent_rl.errors import InvalidSettingError, UnknownNameError
from maxent_rl.tokens import objectives
from maxent_rl.tokens.objectives import SAMPLER_CORRECTIONS, from_trl, from_tunix, from_verl


def same_loss(translated, expected):
    """Both on ragged responses, of which some were cut at the length limit."""
    outputs, batch = responses()
    one, other = (loss_of(each, outputs, batch) for each in (translated.objective, expected))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    assert np.isfinite(one) and one != 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "name", "settings"),
    [
        ({"adv_estimator": "grpo", "clip_ratio_c": None}, "grpo", {"dual_clip": 3.0}),
        ({"adv_estimator": "grpo", "loss_agg_mode": "seq-mean-token-mean"}, "grpo",
         {"dual_clip": 3.0, "aggregation": "seq-mean-token-mean"}),
        ({"adv_estimator": "grpo", "norm_adv_by_std_in_grpo": False, "loss_agg_mode": "seq-mean-token-sum-norm",
          "loss_scale_factor": 64}, "dr_grpo", {"dual_clip": 3.0, "aggregation_length": 64.0, "count_rows": "valid"}),
        ({"adv_estimator": "grpo", "loss_agg_mode": "token-sum"}, "grpo", {"dual_clip": 3.0, "aggregation": "token-sum"}),
        ({"algorithm": {"adv_estimator": "grpo"}, "actor": {"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4,
          "policy_loss": {"loss_mode": "gspo"}}}, "gspo", {}),
        ({"adv_estimator": "rloo"}, "rloo", {"dual_clip": 3.0, "sequence_ratio": False, "ratio_product": False,
          "aggregation": "token-mean"}),
        ({"adv_estimator": "reinforce_plus_plus"}, "reinforce_pp", {"dual_clip": 3.0}),
        ({"adv_estimator": "grpo", "loss_mode": "cispo"}, "cispo",
         {"ratio_low": 0.8, "ratio_high": 1.2, "scale": "group", "group_epsilon": 1e-6}),
        ({"adv_estimator": "grpo", "loss_mode": "geo_mean", "clip_ratio": 0.4}, "gmpo", {}),
        ({"adv_estimator": "gpg", "loss_mode": "gpg"}, "gpg", {}),
        ({"adv_estimator": "grpo", "loss_mode": "kl_cov", "kl_cov_ratio": 0.2}, "kl_cov", {"kl_cov_share": 0.2}),
        ({"adv_estimator": "grpo", "loss_mode": "dppo_tv"}, "dppo_tv", {}),
        ({"adv_estimator": "opo"}, "opo", None),
        ({"adv_estimator": "grpo", "actor.use_kl_loss": True, "actor.kl_loss_coef": 0.05}, "grpo",
         {"dual_clip": 3.0, "kl_weight": 0.05, "kl_largest": 10.0}),
        ({"adv_estimator": "grpo", "entropy_coeff": 0.01}, "grpo", {"dual_clip": 3.0, "entropy_bonus": 0.01}),
        ({"adv_estimator": "grpo", "rollout_correction": {"rollout_is": "token", "rollout_is_threshold": 1.1}}, "grpo",
         {"dual_clip": 3.0, "sampler_level": "token", "sampler_high": 1.1}),
        ({"adv_estimator": "grpo", "filter_groups": {"enable": True}, "clip_ratio_high": 0.28,
          "overlong_buffer": {"enable": True, "len": 1, "penalty_factor": 1.0}, "max_resp_len": 5}, "dapo",
         {"dual_clip": 3.0, "overlong_limit": 5, "overlong_margin": 1}),
    ],
)  # fmt: skip
def test_verl(config, name, settings):
    translated = from_verl(config)
    assert "adv_estimator" not in translated.left
    if settings is not None:
        same_loss(translated, objectives.make(name, **settings))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "name", "settings"),
    [
        ({"loss_type": "grpo"}, "grpo_trl", {}),
        ({"loss_type": "bnpo"}, "grpo", {"group_epsilon": 1e-4}),
        ({"epsilon_high": 0.28}, "grpo", {"group_epsilon": 1e-4, "clip_high": 0.28}),
        ({"loss_type": "dr_grpo", "scale_rewards": False, "max_completion_length": 64}, "dr_grpo",
         {"aggregation_length": 64.0}),
        ({"loss_type": "cispo", "epsilon_high": 5.0, "scale_rewards": "batch"}, "cispo", {}),
        ({"loss_type": "sapo"}, "sapo", {}),
        ({"loss_type": "luspo", "importance_sampling_level": "sequence", "epsilon": 2e-3, "epsilon_high": 2.5e-3},
         "luspo", {}),
        ({"loss_type": "vespo"}, "vespo", {}),
        ({"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": True}, "grpo_trl",
         {"kl_weight": 0.04, "kl_unbiased": True}),
        ({"loss_type": "grpo", "mask_truncated_completions": True, "top_entropy_quantile": 0.4}, "grpo_trl",
         {"mask_truncated": True, "top_entropy_share": 0.4}),
        ({"loss_type": "grpo", "use_vllm": True, "vllm_importance_sampling_mode": "token_truncate",
          "vllm_importance_sampling_cap": 2.0}, "grpo_trl", SAMPLER_CORRECTIONS["tis"]),
        ({"loss_type": "grpo", "off_policy_mask_threshold": 0.1}, "grpo_trl",
         {"off_policy_threshold": 0.1, "off_policy_since": "policy"}),
        ({"loss_type": "grpo", "use_vllm": True, "vllm_importance_sampling_correction": False,
          "off_policy_mask_threshold": 0.1}, "grpo_trl", {"off_policy_threshold": 0.1}),
        ({"multi_objective_aggregation": "normalize_then_sum", "reward_weights": [1.0, 0.5]}, "gdpo",
         {"part_weights": (1.0, 0.5), "normalise_sum": "responses"}),
        ({"loss_type": "grpo", "entropy_coef": 0.1}, "grpo_trl", {"entropy_bonus": 0.1, "entropy_average": "tokens"}),
    ],
)  # fmt: skip
def test_trl(config, name, settings):
    same_loss(from_trl(config), objectives.make(name, **settings))


@pytest.mark.parametrize(
    ("config", "name", "settings"),
    [
        ({"beta": 0.0}, "grpo_trl", {"count_rows": "valid"}),
        ({"beta": 0.1, "kl_loss_mode": "low_var_kl"}, "grpo_trl", {"count_rows": "valid", "kl_weight": 0.1}),
        ({"beta": 0.0, "loss_algo": "gspo-token", "epsilon": 3e-4, "epsilon_high": 4e-4}, "gspo", {"group_epsilon": 1e-4}),
        ({"beta": 0.0, "advantage_estimator": "drgrpo", "loss_agg_mode": "sequence-mean-token-scale",
          "loss_scale_factor": 8}, "dr_grpo", {"aggregation_length": 8.0, "count_rows": "valid"}),
        ({"beta": 0.0, "loss_agg_mode": "token-mean"}, "grpo", {"group_epsilon": 1e-4}),
    ],
)  # fmt: skip
def test_tunix(config, name, settings):
    same_loss(from_tunix(config), objectives.make(name, **settings))


def test_what_is_not_the_loss_is_named():
    """Nothing is dropped in silence, and what the caller must do is said."""
    translated = from_trl({"loss_type": "grpo", "learning_rate": 1e-6, "num_generations": 8, "reward_weights": [1.0]})
    assert translated.left["learning_rate"] == "not part of the loss"
    assert "summed by the caller" in translated.left["reward_weights"] and "loss_type" not in translated.left
    assert "to the sampler" in from_trl({"loss_type": "vespo", "use_vllm": True}).left["use_vllm"]
    translated = from_verl({"adv_estimator": "gae", "lam": 0.95, "rollout_rs": "geometric"})
    assert "give its advantages" in translated.left["adv_estimator"] and "reject_level" in translated.left["rollout_rs"]
    assert next(stage for stage in translated.objective.stages if stage.slot == "advantage").trace_decay == 0.95
    outputs, batch = responses(advantages=jnp.linspace(-1.0, 1.0, 8))
    assert np.isfinite(loss_of(translated.objective, outputs, dataclasses.replace(batch, rewards=jnp.zeros(8))))


def test_what_we_do_not_have_is_refused():
    for translate, config, words in (
        (from_verl, {"adv_estimator": "grpp"}, "Unknown adv_estimator 'grpp'. Did you mean 'grpo'"),
        (from_verl, {"loss_mode": "vanila"}, "Unknown loss_mode 'vanila'. Did you mean 'vanilla'"),
        (from_verl, {"loss_agg_mode": "token-men"}, "Did you mean 'token-mean'"),
        (from_trl, {"loss_type": "gspo"}, "Unknown loss_type 'gspo'"),
        (from_tunix, {"loss_algo": "gspo"}, "Did you mean 'grpo' or 'gspo-token'"),
    ):
        with pytest.raises(UnknownNameError, match=words):
            translate(config)
    with pytest.raises(InvalidSettingError, match="--clip-low must be at least 0, got -1"):
        from_trl({"epsilon": -1.0})
    with pytest.raises(InvalidSettingError, match="A configuration is a mapping of names to values, got str"):
        from_trl("grpo")
