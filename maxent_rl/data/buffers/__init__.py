"""The hot path: the replay buffer and the rollout."""
