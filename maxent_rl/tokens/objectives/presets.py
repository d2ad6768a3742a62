"""The named objectives: those of all papers in `methods/`, and how one is made with settings of one's own."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterable
from types import ModuleType
from typing import Any, TypeAlias

from maxent_rl.errors import InvalidSettingError, unknown_name
from maxent_rl.tokens.objectives import methods
from maxent_rl.tokens.objectives.advantages import (
    AdaptiveKLReward,
    DynamicSampling,
    KLReward,
    OverlongFilter,
    OverlongPenalty,
)
from maxent_rl.tokens.objectives.forking import Forking
from maxent_rl.tokens.objectives.methods.covariance import ClipCov
from maxent_rl.tokens.objectives.methods.entropy_target import EntropyTarget
from maxent_rl.tokens.objectives.methods.spear import SelfImitation, ToolCallReward
from maxent_rl.tokens.objectives.pipeline import Objective, chain
from maxent_rl.tokens.objectives.regularisers import (
    AdaptiveEntropyBonus,
    AdaptiveKLPenalty,
    EntropyBonus,
    KLPenalty,
    UncertainTokens,
)
from maxent_rl.tokens.objectives.sampler import OffPolicyMask, SamplerCorrection, SamplerRejection
from maxent_rl.tokens.objectives.stage import Preset, Stage, stage_name

# Stages that `make` adds to any objective as soon as one of their settings is named: make("grpo", kl_weight=0.04). In
# this order: which groups are uniform is asked of rewards as they came, a response left out keeps all its penalties, and an
# entropy bonus asks which tokens are kept.
OPTIONAL: tuple[type[Stage], ...] = (
    DynamicSampling,
    ToolCallReward,
    OverlongPenalty,
    KLReward,
    AdaptiveKLReward,
    OverlongFilter,
    SamplerRejection,
    SamplerCorrection,
    OffPolicyMask,
    Forking,
    KLPenalty,
    AdaptiveKLPenalty,
    UncertainTokens,
    EntropyBonus,
    AdaptiveEntropyBonus,
    EntropyTarget,
    ClipCov,
    SelfImitation,
)

# What TRL and verl call the same thing, for those who write their names out of habit.
ELSEWHERE: dict[str, str] = {
    "beta": "kl_weight",
    "kl_loss_coef": "kl_weight",
    "kl_coef": "kl_reward_weight",
    "kl_loss_type": "kl_estimator",
    "use_bias_correction_kl": "kl_unbiased",
    "epsilon": "clip_low and clip_high",
    "clip_ratio": "clip_low and clip_high",
    "clip_ratio_low": "clip_low",
    "epsilon_high": "clip_high (ratio_high in cispo)",
    "clip_ratio_high": "clip_high",
    "clip_ratio_c": "dual_clip",
    "delta": "dual_clip",
    "importance_sampling_level": "sequence_ratio",
    "scale_rewards": "scale",
    "norm_adv_by_std_in_grpo": "scale",
    "gamma": "return_discount",
    "loss_type": "the name of the objective, or its aggregation",
    "loss_agg_mode": "aggregation",
    "max_completion_length": "aggregation_length, and overlong_limit",
    "entropy_coeff": "entropy_bonus",
    "entropy_coef": "entropy_bonus",
    "use_adaptive_entropy": "adaptive_entropy_target",
    "entropy_coef_delta": "adaptive_entropy_step",
    "entropy_coef_max": "adaptive_entropy_most",
    "target_kl": "adaptive_kl_target or, in the reward, adaptive_kl_reward_target",
    "horizon": "adaptive_kl_horizon or, in the reward, adaptive_kl_reward_horizon",
    "top_entropy_quantile": "top_entropy_share",
    "mask_truncated_completions": "mask_truncated",
    "num_generations": "group_size of the batch",
    "rollout_log_probs": "logp_drawn of the batch",
    "sampling_per_token_logps": "logp_drawn of the batch",
    "vllm_importance_sampling_correction": "sampler_level",
    "vllm_importance_sampling_cap": "sampler_high",
    "rollout_is": "sampler_level",
    "rollout_is_threshold": "sampler_high",
    "rollout_rs": "reject_level",
    "tis_imp_ratio_cap": "sampler_high",
    "off_policy_mask_threshold": "off_policy_threshold",
    "use_opsm": "off_policy_threshold",
    "opsm_delta": "off_policy_threshold",
}

PRESETS: dict[str, Preset] = {}
STAGES: dict[str, type[Stage]] = {}
"""The stages that papers have of their own, by their class names."""


def add_paper(module: ModuleType) -> None:
    """Takes a paper's stages, its presets and its names elsewhere among the others.

    Raises:
      InvalidSettingError: another paper has a name that this one takes.
    """
    own = {
        name: kind
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, Stage) and kind.__module__ == module.__name__
    }
    twice = sorted((PRESETS.keys() & module.PRESETS.keys()) | (STAGES.keys() & own.keys()))
    if twice:
        raise InvalidSettingError(f"{module.__name__} takes names that another paper has: {', '.join(twice)}.")
    PRESETS.update(module.PRESETS)
    STAGES.update(own)
    ELSEWHERE.update(getattr(module, "ELSEWHERE", {}))


for _found in pkgutil.iter_modules(methods.__path__, f"{methods.__name__}."):
    add_paper(importlib.import_module(_found.name))

_Field: TypeAlias = tuple[type[Stage], str]


def names() -> tuple[str, ...]:
    """The names that `make` takes."""
    return tuple(PRESETS)


def settings(name: str) -> dict[str, Any]:
    """The hyper-parameters of a named objective, with their defaults; `stage.setting` where several stages have it.

    Raises:
      UnknownNameError: there is no such objective.
    """
    stages = _preset(name).stages
    count = Counter(field for stage in stages for field in _fields(type(stage)))
    return {
        field if count[field] == 1 else f"{stage_name(type(stage))}.{field}": getattr(stage, field)
        for stage in stages
        for field in _fields(type(stage))
    }


def default_of(name: str, setting: str) -> Any:
    """The default of a hyper-parameter that `make` takes, optional ones included; None where there is no such one.

    Raises:
      UnknownNameError: there is no such objective.
    """
    stages = [*_preset(name).stages, *(kind() for kind in OPTIONAL)]
    return next((getattr(stage, field) for stage in stages for _, field in _meant([type(stage)], setting)), None)


def make(name: str, **overrides: Any) -> Objective:
    """Makes a named objective.

    Args:
      name: one of `names()`.
      **overrides: hyper-parameters of its stages, by their names (`steer_floor=0.02`), or with the stage's before them
        (`**{"steer.steer_floor": 0.02}`, or in short `"steer.floor"`), which is needed where several stages have it. One of
        an optional stage (`kl_weight`, `entropy_bonus`, `overlong_margin`, ...) adds that stage.

    Returns:
      The objective.

    Raises:
      UnknownNameError: no such objective or hyper-parameter, with the nearest right ones.
      InvalidSettingError: a value out of its bounds, a setting that several stages have, one that is given twice, or one of
        the penalty near the length limit without that limit.
    """
    stages = list(_preset(name).stages)
    own = [type(stage) for stage in stages]
    added: set[type[Stage]] = set()
    for setting in overrides:
        optional = {kind for kind in OPTIONAL if _meant([kind], setting)}
        if not optional and not _meant(own, setting):
            hint = f"What other trainers call {setting} is {ELSEWHERE[setting]} here." if setting in ELSEWHERE else ""
            known = {form for kind in (*own, *OPTIONAL) for field in _fields(kind) for form in _forms(kind, field)}
            known = {form for form in known if ("." in form) == ("." in setting)}
            raise unknown_name(f"hyper-parameter of {name}", setting, known, hint)
        if not _meant(own, setting):
            added |= optional
    penalty = {field for setting in overrides for _, field in _meant([OverlongPenalty], setting)}
    if penalty and "overlong_limit" not in penalty:
        raise InvalidSettingError(
            f"{' and '.join(sorted(penalty))} of {name} needs overlong_limit, the length limit of sampling in tokens."
        )
    stages += [kind() for kind in OPTIONAL if kind in added]
    changes = _changes(name, [type(stage) for stage in stages], overrides)
    changed = [
        dataclasses.replace(  # type: ignore[type-var]
            stage, **{field: value for (kind, field), value in changes.items() if kind is type(stage)}
        )
        for stage in stages
    ]
    return chain(*changed, name=name)


def _changes(name: str, kinds: list[type[Stage]], overrides: dict[str, Any]) -> dict[_Field, Any]:
    """Which field of which stage each setting means."""
    changes: dict[_Field, Any] = {}
    for setting, value in overrides.items():
        meant = _meant(kinds, setting)
        if len(meant) > 1:
            either = " or ".join(f"{stage_name(kind)}.{field}" for kind, field in meant)
            raise InvalidSettingError(f"Several stages of {name} have a setting {setting}: say {either}.")
        if meant[0] in changes:
            raise InvalidSettingError(f"{setting} of {name} is given twice, with the name of its stage and without.")
        changes[meant[0]] = value
    return changes


def _meant(kinds: Iterable[type[Stage]], setting: str) -> list[_Field]:
    return [(kind, field) for kind in kinds for field in _fields(kind) if setting in _forms(kind, field)]


def _forms(kind: type[Stage], field: str) -> tuple[str, str, str]:
    """The names by which a setting of a stage goes: steer_floor, steer.steer_floor and steer.floor."""
    stage = stage_name(kind)
    return field, f"{stage}.{field}", f"{stage}.{field.removeprefix(f'{stage}_')}"


def _preset(name: object) -> Preset:
    if not isinstance(name, str) or name not in PRESETS:
        raise unknown_name(
            "objective", name, PRESETS, "Losses on preferences (dpo, kto, ...) are those of preference_loss."
        )
    return PRESETS[name]


def _fields(stage: type[Stage]) -> list[str]:
    return [field.name for field in dataclasses.fields(stage)]  # type: ignore[arg-type]
