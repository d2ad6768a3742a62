"""Sources of prompts: the task itself, templates, pools, curricula, mixtures, and problems that a policy describes."""

from maxent_rl.tokens.prompts.curriculum import CurriculumPrompts, buckets_of, difficulty_thresholds
from maxent_rl.tokens.prompts.mixture import MixturePrompts
from maxent_rl.tokens.prompts.named import SOURCES, make_source
from maxent_rl.tokens.prompts.pool import PoolPrompts
from maxent_rl.tokens.prompts.ring import Ring
from maxent_rl.tokens.prompts.source import Posed, PromptSource, TaskPrompts
from maxent_rl.tokens.prompts.synthesis import SynthesisPrompts, diversity, smoothed_rewards
from maxent_rl.tokens.prompts.templates import (
    TemplateBank,
    TemplatePrompts,
    augment,
    format_reward,
    marker_counts,
    wrap,
)

__all__ = [
    "SOURCES",
    "CurriculumPrompts",
    "MixturePrompts",
    "PoolPrompts",
    "Posed",
    "PromptSource",
    "Ring",
    "SynthesisPrompts",
    "TaskPrompts",
    "TemplateBank",
    "TemplatePrompts",
    "augment",
    "buckets_of",
    "difficulty_thresholds",
    "diversity",
    "format_reward",
    "make_source",
    "marker_counts",
    "smoothed_rewards",
    "wrap",
]
