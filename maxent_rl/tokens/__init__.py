"""The same losses at the scale of language models: batches of responses, objectives, preferences, tasks, sampling."""

from maxent_rl.tokens import objectives, packing, preferences
from maxent_rl.tokens.batch import Aux, Prompted, TokenBatch, TokenOutputs
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.preferences import PreferenceBatch, preference_loss
from maxent_rl.tokens.statistics import TokenStatistics, logits_statistics, token_statistics

__all__ = [
    "Aux",
    "LanguageModel",
    "PreferenceBatch",
    "Prompted",
    "TokenBatch",
    "TokenOutputs",
    "TokenStatistics",
    "logits_statistics",
    "objectives",
    "packing",
    "preference_loss",
    "preferences",
    "token_statistics",
]
