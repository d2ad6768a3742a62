"""Set functions with diminishing returns, as small objects that environments pay by."""

from maxent_rl.envs.rewards.base import SetFunction, Table
from maxent_rl.envs.rewards.coverage import Coverage

__all__ = ["Coverage", "SetFunction", "Table"]
