"""Objectives of reinforcement fine-tuning, from a name or from stages.

    objective = objectives.make("clip_cov", clip_share=1e-3)
    state = objective.init()
    loss, aux = objective(state, TokenOutputs(logp, entropy), TokenBatch(logp_old, mask, rewards, group_size=8))

They know no model, tokenizer or trainer: arrays go in, a loss comes out. A batch that is learned from in several steps is
prepared once, then cut:

    state, batch = objective.prepare(state, batch)
    loss, aux = objective(state, outputs, batch.rows(slice(0, 64)))  # batch.groups(...) where objective.whole_groups

`presets.PRESETS` says what each name is made of, `settings(name)` which hyper-parameters it has; who knows TRL's or verl's
names finds ours in `presets.ELSEWHERE`, or writes theirs and is told.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from maxent_rl.errors import unknown_name
from maxent_rl.tokens.objectives.adpo import ADPO
from maxent_rl.tokens.objectives.advantages import (
    Baseline,
    DynamicSampling,
    GroupAdvantage,
    KLReward,
    NonzeroScale,
    OverlongFilter,
    OverlongPenalty,
    WhitenedReturns,
    informative_groups,
)
from maxent_rl.tokens.objectives.aepo import AEPO
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.covariance import ClipCov, KLCov
from maxent_rl.tokens.objectives.dcpo import DCPO
from maxent_rl.tokens.objectives.discriminator import ClipB, ClipV
from maxent_rl.tokens.objectives.entropy_target import EntropyTarget
from maxent_rl.tokens.objectives.estimate import EntropyEstimate
from maxent_rl.tokens.objectives.lp_reg import LpReg
from maxent_rl.tokens.objectives.pipeline import Objective, chain
from maxent_rl.tokens.objectives.presets import ELSEWHERE, OPTIONAL, PRESETS, Preset
from maxent_rl.tokens.objectives.regularisers import EntropyBonus, KLPenalty, UncertainTokens
from maxent_rl.tokens.objectives.stage import Side, Stage, Statistic, Work
from maxent_rl.tokens.objectives.steer import Steer
from maxent_rl.tokens.objectives.surrogates import (
    Clipped,
    ClippedWeight,
    GeometricMean,
    LogProbability,
    SoftGate,
    Unclipped,
)

__all__ = [
    "ADPO",
    "AEPO",
    "DCPO",
    "OPTIONAL",
    "PRESETS",
    "Aggregate",
    "Baseline",
    "ClipB",
    "ClipCov",
    "ClipV",
    "Clipped",
    "ClippedWeight",
    "DynamicSampling",
    "EntropyBonus",
    "EntropyEstimate",
    "EntropyTarget",
    "GeometricMean",
    "GroupAdvantage",
    "KLCov",
    "KLPenalty",
    "KLReward",
    "LogProbability",
    "LpReg",
    "NonzeroScale",
    "Objective",
    "OverlongFilter",
    "OverlongPenalty",
    "Preset",
    "Side",
    "SoftGate",
    "Stage",
    "Statistic",
    "Steer",
    "UncertainTokens",
    "Unclipped",
    "WhitenedReturns",
    "Work",
    "chain",
    "informative_groups",
    "make",
    "names",
    "settings",
]


def names() -> tuple[str, ...]:
    """The names that `make` takes."""
    return tuple(PRESETS)


def settings(name: str) -> dict[str, Any]:
    """The hyper-parameters of a named objective, with their defaults.

    Raises:
      UnknownNameError: there is no such objective.
    """
    return {
        field.name: getattr(stage, field.name)
        for stage in _preset(name).stages
        for field in dataclasses.fields(stage)  # type: ignore[arg-type]
    }


def make(name: str, **overrides: Any) -> Objective:
    """Makes a named objective.

    Args:
      name: one of `names()`.
      **overrides: hyper-parameters of its stages. One of an optional stage (`kl_weight`, `entropy_bonus`,
        `overlong_margin`, ...) adds that stage.

    Returns:
      The objective.

    Raises:
      UnknownNameError: no such objective or hyper-parameter, with the nearest right ones.
      InvalidSettingError: a value out of its bounds.
    """
    stages = list(_preset(name).stages)
    own = {field for stage in stages for field in _fields(stage)}
    known = own.union(*map(_fields, OPTIONAL))
    for setting in overrides:
        if setting not in known:
            hint = f"What other trainers call {setting} is {ELSEWHERE[setting]} here." if setting in ELSEWHERE else ""
            raise unknown_name(f"hyper-parameter of {name}", setting, known, hint)
    stages += [kind() for kind in OPTIONAL if (overrides.keys() - own) & _fields(kind)]
    changed = [
        dataclasses.replace(  # type: ignore[type-var]
            stage, **{setting: value for setting, value in overrides.items() if setting in _fields(stage)}
        )
        for stage in stages
    ]
    return chain(*changed, name=name)


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise unknown_name("objective", name, PRESETS)
    return PRESETS[name]


def _fields(stage: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(stage)}
