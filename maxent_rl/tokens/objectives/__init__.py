"""Objectives of reinforcement fine-tuning, from a name or from stages.

    objective = objectives.make("clip_cov", clip_share=1e-3)
    state = objective.init()
    loss, aux = objective(state, TokenOutputs(logp, entropy), TokenBatch(logp_old, mask, rewards, group_size=8))

They know no model, tokenizer or trainer: arrays go in, a loss comes out. A batch that is learned from in several steps, or in
several parts of one, is prepared once, then cut (by `groups` where objective.whole_groups):

    state, batch = objective.prepare(state, batch)
    loss, aux = objective(state, outputs, batch.rows(slice(0, 64)).as_step())  # a minibatch, which divides by its own counts
    step, aux = objective.survey(state, outputs, batch)  # where objective.surveys
    loss, aux = objective(aux.state, outputs, step.rows(slice(0, 64)))  # a part: the mean over equal parts is the whole's

`PRESETS` says what each name is made of, `settings(name)` which hyper-parameters it has; who knows TRL's or verl's names finds
ours in `presets.ELSEWHERE`, or writes theirs and is told. A paper's stages and presets are one file in `methods/`; the stages
are found here too, by their names.
"""

from __future__ import annotations

from typing import Any

from maxent_rl.tokens.objectives.advantages import (
    AdaptiveKLReward,
    DynamicSampling,
    GroupAdvantage,
    KLReward,
    OverlongFilter,
    OverlongPenalty,
    WhitenedReturns,
    informative_groups,
)
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.credit import Credit
from maxent_rl.tokens.objectives.critics import CriticAdvantage, CriticLoss
from maxent_rl.tokens.objectives.distillation import AdvantageMix, Distillation, HintedRows
from maxent_rl.tokens.objectives.elsewhere import Translated, from_trl, from_tunix, from_verl
from maxent_rl.tokens.objectives.estimate import EntropyEstimate
from maxent_rl.tokens.objectives.forking import Forking
from maxent_rl.tokens.objectives.pipeline import Objective, chain
from maxent_rl.tokens.objectives.presets import (
    ELSEWHERE,
    OPTIONAL,
    PRESETS,
    STAGES,
    default_of,
    make,
    names,
    settings,
)
from maxent_rl.tokens.objectives.regularisers import (
    AdaptiveEntropyBonus,
    AdaptiveKLPenalty,
    EntropyBonus,
    KLPenalty,
    UncertainTokens,
)
from maxent_rl.tokens.objectives.replaying import Replay
from maxent_rl.tokens.objectives.sampler import (
    SAMPLER_CORRECTIONS,
    OffPolicyMask,
    SamplerCorrection,
    SamplerRejection,
)
from maxent_rl.tokens.objectives.stage import (
    Comparison,
    Hint,
    Preset,
    Sampling,
    Side,
    Stage,
    Statistic,
    TeacherName,
    Teaching,
    TokenTemperature,
    Work,
)
from maxent_rl.tokens.objectives.surrogates import Clipped, LogProbability
from maxent_rl.tokens.objectives.words import from_words

__all__ = [
    "ELSEWHERE",
    "OPTIONAL",
    "PRESETS",
    "SAMPLER_CORRECTIONS",
    "AdaptiveEntropyBonus",
    "AdaptiveKLPenalty",
    "AdaptiveKLReward",
    "AdvantageMix",
    "Aggregate",
    "Clipped",
    "Comparison",
    "Credit",
    "CriticAdvantage",
    "CriticLoss",
    "Distillation",
    "DynamicSampling",
    "EntropyBonus",
    "EntropyEstimate",
    "Forking",
    "GroupAdvantage",
    "Hint",
    "HintedRows",
    "KLPenalty",
    "KLReward",
    "LogProbability",
    "Objective",
    "OffPolicyMask",
    "OverlongFilter",
    "OverlongPenalty",
    "Preset",
    "Replay",
    "SamplerCorrection",
    "SamplerRejection",
    "Sampling",
    "Side",
    "Stage",
    "Statistic",
    "TeacherName",
    "Teaching",
    "TokenTemperature",
    "Translated",
    "UncertainTokens",
    "WhitenedReturns",
    "Work",
    "chain",
    "default_of",
    "from_trl",
    "from_tunix",
    "from_verl",
    "from_words",
    "informative_groups",
    "make",
    "names",
    "settings",
    *STAGES,
]


def __getattr__(name: str) -> Any:
    """A stage of a paper, from its file."""
    if name in STAGES:
        return STAGES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
