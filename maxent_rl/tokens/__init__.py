"""The same losses at the scale of language models: batches of responses, objectives, tasks, sampling."""

from maxent_rl.tokens import objectives
from maxent_rl.tokens.batch import Aux, TokenBatch, TokenOutputs
from maxent_rl.tokens.statistics import TokenStatistics, logits_statistics, token_statistics

__all__ = [
    "Aux",
    "TokenBatch",
    "TokenOutputs",
    "TokenStatistics",
    "logits_statistics",
    "objectives",
    "token_statistics",
]
