"""The same losses at the scale of language models: batches of responses, objectives, tasks, sampling."""

from maxent_rl.tokens import objectives
from maxent_rl.tokens.batch import Aux, TokenBatch, TokenOutputs

__all__ = ["Aux", "TokenBatch", "TokenOutputs", "objectives"]
