"""Objectives from other trainers' configurations: verl's, TRL's, Tunix's.

    translated = from_verl({"adv_estimator": "grpo", "loss_agg_mode": "token-mean", "clip_ratio_high": 0.28})
    loss, aux = translated.objective(state, outputs, batch)

What of a configuration decides the loss is translated, or refused where we have no such thing; all that belongs to the trainer
around it (learning rates, batch sizes, engines) is named in `left`. Nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from maxent_rl.errors import InvalidSettingError, unknown_name
from maxent_rl.losses.aggregation import Aggregation
from maxent_rl.tokens.objectives.advantages import (
    AdaptiveKLReward,
    AdvantageStage,
    DynamicSampling,
    GroupAdvantage,
    KLReward,
    OverlongFilter,
    OverlongPenalty,
    WhitenedReturns,
)
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.critics import CriticAdvantage
from maxent_rl.tokens.objectives.methods.best_of_group import BestOfGroup
from maxent_rl.tokens.objectives.methods.cispo import ClippedWeight
from maxent_rl.tokens.objectives.methods.covariance import ClipCov, KLCov, Unclipped
from maxent_rl.tokens.objectives.methods.dppo import DivergenceMask
from maxent_rl.tokens.objectives.methods.dro import QuadraticTrust
from maxent_rl.tokens.objectives.methods.gdpo import PartAdvantages
from maxent_rl.tokens.objectives.methods.gmpo import GeometricMean
from maxent_rl.tokens.objectives.methods.gpg import NonzeroScale
from maxent_rl.tokens.objectives.methods.opo import LengthBaseline
from maxent_rl.tokens.objectives.methods.remax import GreedyBaseline
from maxent_rl.tokens.objectives.methods.sapo import SoftGate
from maxent_rl.tokens.objectives.methods.token_baseline import OptimalTokenBaseline
from maxent_rl.tokens.objectives.methods.vespo import GammaWeight
from maxent_rl.tokens.objectives.pipeline import Objective, chain
from maxent_rl.tokens.objectives.regularisers import AdaptiveEntropyBonus, EntropyBonus, KLPenalty, UncertainTokens
from maxent_rl.tokens.objectives.sampler import OffPolicyMask, SamplerCorrection
from maxent_rl.tokens.objectives.stage import Stage
from maxent_rl.tokens.objectives.surrogates import Clipped, LogProbability


class Translated(NamedTuple):
    """An objective of ours that is another trainer's.

    Attributes:
      objective: whose stages say what it is made of.
      left: settings that are not part of the loss, or are the caller's to do, each with why.
    """

    objective: Objective
    left: dict[str, str]


class _Given:
    """A configuration that knows which of its settings were asked for."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        if not isinstance(config, Mapping):
            raise InvalidSettingError(f"A configuration is a mapping of names to values, got {type(config).__name__}.")
        self.values, self.read = _flat(config), set[str]()
        self.left: dict[str, str] = {}

    def take(self, name: str, default: Any = None) -> Any:
        """A setting's value, which counts as translated from then on."""
        self.read.add(name)
        value = self.values.get(name)
        return default if value is None else value

    def one_of(self, name: str, known: Mapping[str, Any], default: str) -> Any:
        """What the value of a setting stands for.

        Raises:
          UnknownNameError: we have no such thing; with the nearest.
        """
        value = str(self.take(name, default))
        if value not in known:
            raise unknown_name(name, value, known)
        return known[value]

    def rest(self) -> dict[str, str]:
        """All that was not asked for."""
        others = {name: "not part of the loss" for name in self.values if name not in self.read}
        return self.left | others


def from_verl(config: Mapping[str, Any]) -> Translated:
    """The objective of a verl configuration: of `algorithm` and `actor`, nested as in its YAML or flat.

    Args:
      config: of its settings those that are given; for the others verl's defaults hold.

    Raises:
      UnknownNameError: an estimator, a loss or an aggregation that we do not have.
      InvalidSettingError: a value out of its bounds.
    """
    given = _Given(config)
    mode, surrogates = _verl_surrogates(given)
    aggregation = given.one_of("loss_agg_mode", {mode: mode for mode in get_args(Aggregation)}, "token-mean")
    if mode in ("gspo", "sapo", "geo_mean"):  # which average by response, whatever loss_agg_mode says
        aggregation = "seq-mean-token-mean"
    divide = aggregation == "seq-mean-token-sum-norm"  # since verl's pull request 6157; before, by the length alone
    stages = [
        *_verl_rewards(given),
        _verl_advantages(given),
        *surrogates,
        Aggregate(aggregation, given.take("loss_scale_factor"), divide_rows=divide),
        *_verl_regularisers(given),
    ]
    for name in ("rollout_rs", "rollout_rs_threshold"):
        if given.take(name):
            given.left[name] = "give it as reject_level, reject_low and reject_high: verl's presets differ by version"
    return Translated(chain(*stages, name=f"verl's {mode}"), given.rest())


def from_trl(config: Mapping[str, Any]) -> Translated:
    """The objective of a configuration of TRL's GRPOTrainer or RLOOTrainer (a `GRPOConfig` as a dict).

    Args:
      config: of its settings those that are given; for the others the defaults of TRL 1.16 hold.

    Raises:
      UnknownNameError: a loss type that we do not have.
      InvalidSettingError: a value out of its bounds.
    """
    given = _Given(config)
    epsilon = given.take("epsilon", 0.2)
    high = given.take("epsilon_high", epsilon)
    sequence = given.one_of("importance_sampling_level", {"token": False, "sequence": True}, "token")
    kind = str(given.take("loss_type", "dapo"))
    clipped = Clipped(epsilon, high, given.take("delta"), sequence)
    vespo = (given.take(f"vespo_{name}") for name in ("k_pos", "lambda_pos", "k_neg", "lambda_neg"))
    surrogates: dict[str, Stage] = dict.fromkeys(("grpo", "bnpo", "dapo", "dr_grpo", "luspo"), clipped)
    surrogates["cispo"] = ClippedWeight(0.0, high)
    surrogates["sapo"] = SoftGate(given.take("sapo_temperature_pos", 1.0), given.take("sapo_temperature_neg", 1.05))
    surrogates["vespo"] = GammaWeight(
        *(default if value is None else value for value, default in zip(vespo, (2.0, 3.0, 3.0, 2.0), strict=True))
    )
    if kind not in surrogates:
        raise unknown_name("loss_type", kind, surrogates)
    length = given.take("max_completion_length")
    aggregates = {
        "grpo": Aggregate("seq-mean-token-mean", count_rows="all"),
        "sapo": Aggregate("seq-mean-token-mean", count_rows="all"),
        "luspo": Aggregate("seq-mean-token-sum", count_rows="all"),
        "dr_grpo": Aggregate("seq-mean-token-sum-norm", length, count_rows="all", divide_rows=True),
    }
    stages = [_trl_advantages(given), surrogates[kind], aggregates.get(kind, Aggregate())]
    if given.take("beta", 0.0):
        unbiased = bool(given.take("use_bias_correction_kl", True))
        stages.append(KLPenalty(given.take("beta"), "k3", kl_unbiased=unbiased))
    if given.take("mask_truncated_completions", False):
        stages.append(OverlongFilter())
    if given.take("top_entropy_quantile", 1.0) < 1.0:
        stages.append(UncertainTokens(given.take("top_entropy_quantile")))
    stages += _trl_entropy(given)  # of the tokens that are kept
    if given.take("use_vllm", False) and given.take("vllm_importance_sampling_correction", True):
        if kind == "vespo":
            given.left["use_vllm"] = "TRL's vespo asks how likely a response is to the sampler, ours to the old policy"
        else:
            stages.append(_trl_correction(given))
    if given.take("off_policy_mask_threshold") is not None:
        since: Any = "sampler" if given.take("use_vllm", False) else "policy"
        stages.append(OffPolicyMask(given.take("off_policy_mask_threshold"), since))
    return Translated(chain(*stages, name=f"TRL's {kind}"), given.rest())


def from_tunix(config: Mapping[str, Any]) -> Translated:
    """The objective of a configuration of Tunix's GRPO learner (a `GRPOConfig` as a dict).

    Args:
      config: of its settings those that are given; for the others Tunix's defaults hold.

    Raises:
      UnknownNameError: an algorithm, an estimator or an aggregation that we do not have.
      InvalidSettingError: a value out of its bounds.
    """
    given = _Given(config)
    epsilon = given.take("epsilon", 0.2)
    high = given.take("epsilon_high", epsilon)
    sequence = given.one_of("loss_algo", {"grpo": False, "gspo-token": True}, "grpo")
    advantages = {
        "grpo": GroupAdvantage(group_epsilon=1e-4),
        "drgrpo": GroupAdvantage("none"),
        "rloo": GroupAdvantage("none", leave_one_out=True),
    }
    scale = given.take("loss_scale_factor")
    modes: dict[str, Aggregate] = {
        "token-mean": Aggregate(),
        "sequence-mean-token-mean": Aggregate("seq-mean-token-mean"),
        "sequence-mean-token-scale": Aggregate("seq-mean-token-sum-norm", scale, divide_rows=True),
        "seq-mean-token-sum": Aggregate("seq-mean-token-sum"),
        "sequence-mean-token-sum-norm": Aggregate("seq-mean-token-sum")
        if scale is None
        else Aggregate("seq-mean-token-sum-norm", scale),
    }
    stages: list[Stage] = [
        given.one_of("advantage_estimator", advantages, "grpo"),
        Clipped(epsilon, high, sequence_ratio=sequence),
        given.one_of("loss_agg_mode", modes, "sequence-mean-token-mean"),
    ]
    if given.take("beta", 0.04):
        estimator = given.one_of("kl_loss_mode", {"kl": "k1", "mse_kl": "k2", "low_var_kl": "k3"}, "kl")
        stages.append(KLPenalty(given.take("beta", 0.04), estimator))
    return Translated(chain(*stages, name="Tunix's grpo"), given.rest())


def _verl_rewards(given: _Given) -> list[Stage]:
    """What changes rewards, or leaves out responses, before there are advantages."""
    stages: list[Stage] = []
    filtering = given.take("filter_groups", False)
    if filtering and filtering != "False":
        stages.append(DynamicSampling())
    if given.take("overlong_buffer", False):
        length, limit = given.take("overlong_buffer_len"), given.take("max_resp_len")
        stages.append(OverlongPenalty(limit, length, given.take("penalty_factor", 1.0)))
    if given.take("use_kl_in_reward", False):
        estimator = given.one_of("kl_penalty", _VERL_ESTIMATORS, "kl")
        weight, target, horizon = (given.take(*each) for each in _VERL_CONTROLLER)
        adaptive = given.one_of("kl_ctrl_type", {"fixed": False, "adaptive": True}, "fixed")
        stages.append(AdaptiveKLReward(target, weight, horizon, estimator) if adaptive else KLReward(weight, estimator))
    return stages


_VERL_CONTROLLER = ("kl_coef", 0.001), ("target_kl", 0.1), ("horizon", 10_000)
_VERL_ESTIMATORS = {"kl": "k1", "k1": "k1", "abs": "abs", "mse": "k2", "k2": "k2", "low_var_kl": "k3", "k3": "k3"}


def _verl_surrogates(given: _Given) -> tuple[str, list[Stage]]:
    """The name of the policy loss, and its stages."""
    clip = given.take("clip_ratio", 0.2)
    low, high = given.take("clip_ratio_low", clip), given.take("clip_ratio_high", clip)
    covariance = given.take("clip_cov_lb", 1.0), given.take("clip_cov_ub", 5.0), given.take("clip_cov_ratio", 2e-4)
    known: dict[str, list[Stage]] = {
        "vanilla": [Clipped(low, high, given.take("clip_ratio_c", 3.0))],
        "gspo": [Clipped(low, high, sequence_ratio=True)],
        "sapo": [SoftGate(given.take("tau_pos", 1.0), given.take("tau_neg", 1.05))],
        "gpg": [LogProbability()],
        "geo_mean": [GeometricMean(low, high)],
        "cispo": [ClippedWeight(1.0 - low, 1.0 + high)],
        "dppo_tv": [DivergenceMask(low, high, given.take("clip_ratio_c", 20.0), "tv")],
        "dppo_kl": [DivergenceMask(low, high, given.take("clip_ratio_c", 20.0), "kl")],
        "dro": [QuadraticTrust(given.take("dro_beta", 0.1))],
        "clip_cov": [Clipped(low, high), ClipCov(*covariance)],
        "kl_cov": [Unclipped(), KLCov(given.take("kl_cov_ratio", 2e-4), given.take("ppo_kl_coef", 1.0))],
    }
    return str(given.take("loss_mode", "vanilla")), given.one_of("loss_mode", known, "vanilla")


def _verl_regularisers(given: _Given) -> list[Stage]:
    stages: list[Stage] = []
    if given.take("use_kl_loss", False):
        straight = {f"{name}+": f"{value}+" for name, value in _VERL_ESTIMATORS.items() if value != "k2"}
        estimators = _VERL_ESTIMATORS | straight
        estimator = given.one_of("kl_loss_type", estimators, "low_var_kl")
        stages.append(KLPenalty(given.take("kl_loss_coef", 0.001), estimator, 10.0))
    if given.take("entropy_coeff", 0.0):
        stages.append(EntropyBonus(given.take("entropy_coeff")))
    if given.take("rollout_is"):
        level = given.one_of("rollout_is", {"token": "token", "sequence": "sequence"}, "token")
        stages.append(SamplerCorrection(given.take("rollout_is_threshold", 2.0), sampler_level=level))
    return stages


def _verl_advantages(given: _Given) -> AdvantageStage:
    discount = given.take("gamma", 1.0)
    decay = 1.0
    if given.values.get("adv_estimator", "gae") == "gae":
        decay = given.take("lam", 1.0)
        given.left["adv_estimator"] = (
            "gae is a critic's: give its values as TokenBatch(values=[N, T]), or give its advantages; CriticLoss trains it"
        )
    scale = "group" if given.take("norm_adv_by_std_in_grpo", True) else "none"
    parts = given.take("gdpo_reward_weights")
    known: dict[str, AdvantageStage] = {
        "gae": CriticAdvantage(discount, decay),
        "grpo": GroupAdvantage(scale),  # type: ignore[arg-type]
        "grpo_vectorized": GroupAdvantage(scale),  # type: ignore[arg-type]
        "reinforce_plus_plus": WhitenedReturns(discount),
        "reinforce_plus_plus_baseline": WhitenedReturns(discount, group_baseline=True),
        "rloo": GroupAdvantage("none", leave_one_out=True),
        "rloo_vectorized": GroupAdvantage("none", leave_one_out=True),
        "remax": GreedyBaseline(),
        "opo": LengthBaseline(),
        "grpo_passk": BestOfGroup(),
        "gpg": NonzeroScale(given.take("f_norm", 1.0)),
        "gdpo": PartAdvantages(None if parts is None else tuple(map(float, parts)), part_epsilon=1e-6),
        "optimal_token_baseline": OptimalTokenBaseline(),
    }
    found: AdvantageStage = given.one_of("adv_estimator", known, "gae")
    return found


def _trl_advantages(given: _Given) -> AdvantageStage:
    weights = given.take("reward_weights")
    if given.take("multi_objective_aggregation", "sum_then_normalize") == "normalize_then_sum":
        return PartAdvantages(None if weights is None else tuple(map(float, weights)), normalise_sum="responses")
    if weights is not None:
        given.left["reward_weights"] = "rewards are summed by the caller: TokenBatch(rewards=[N])"
    scales: dict[str, Any] = {"group": "group", "True": "group", "batch": "batch", "none": "none", "False": "none"}
    return GroupAdvantage(given.one_of("scale_rewards", scales, "group"), 1e-4)


def _trl_entropy(given: _Given) -> list[Stage]:
    weight = given.take("entropy_coef", 0.0)
    if not given.take("use_adaptive_entropy", False):
        return [EntropyBonus(weight, "tokens")] if weight else []
    if given.values.get("entropy_coef_min"):
        given.left["entropy_coef_min"] = "the least weight is 0 here"
    given.take("entropy_coef_min")
    target, step = given.take("entropy_target", 0.2), given.take("entropy_coef_delta", 0.005)
    return [AdaptiveEntropyBonus(target, step, weight, given.take("entropy_coef_max", 1.0), "tokens")]


def _trl_correction(given: _Given) -> SamplerCorrection:
    modes: dict[str, tuple[Any, Any]] = {
        "token_truncate": ("token", "hold"),
        "token_mask": ("token", "drop"),
        "sequence_truncate": ("sequence", "hold"),
        "sequence_mask": ("sequence", "drop"),
    }
    level, beyond = given.one_of("vllm_importance_sampling_mode", modes, "sequence_mask")
    high = given.take("vllm_importance_sampling_cap", 3.0)  # as it was called before
    high = given.take("vllm_importance_sampling_clip_max", high)
    return SamplerCorrection(high, given.take("vllm_importance_sampling_clip_min", 0.0), level, beyond)


_SECTIONS = {"enable": "{section}", "len": "{section}_len", "type": "{section}_type"}
"""Names that mean nothing without their section's, in verl's files."""


def _flat(config: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """The settings of a nested configuration by their last names."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        last = str(name).rsplit(".", maxsplit=1)[-1]
        if isinstance(value, Mapping):
            found |= _flat(value, last)
        else:
            found[_SECTIONS.get(last, last).format(section=section)] = value
    return found
