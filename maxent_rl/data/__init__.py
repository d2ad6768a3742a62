"""Data that agents learn from: the replay buffer, and the rollout."""

from maxent_rl.data.replay import ReplayLayout
from maxent_rl.data.rollout import RolloutLayout
from maxent_rl.data.rows import Replay, RowLayout

__all__ = ["Replay", "ReplayLayout", "RolloutLayout", "RowLayout"]
