"""A language model at work on a task: responses to learn from, and how good its answers are."""

from maxent_rl.tokens.rollouts.examination import examine
from maxent_rl.tokens.rollouts.responses import Groups, gather

__all__ = ["Groups", "examine", "gather"]
