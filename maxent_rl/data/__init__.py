"""Data that agents learn from: the replay buffer, and the rollout."""

from maxent_rl.data.buffers.replay import ReplayLayout
from maxent_rl.data.buffers.rollout import RolloutLayout
from maxent_rl.data.buffers.rows import Replay, RowLayout

__all__ = ["Replay", "ReplayLayout", "RolloutLayout", "RowLayout"]
