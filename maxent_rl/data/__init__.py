"""Data that agents learn from: the replay buffer."""

from maxent_rl.data.replay import Replay, ReplayLayout

__all__ = ["Replay", "ReplayLayout"]
