"""Conservative Q-learning for discrete actions.

Source: Conservative Q-Learning for Offline Reinforcement Learning (arXiv 2006.04779), equation 4, on double DQN.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.values.base import Networks
from maxent_rl.agents.values.dqn import DQN
from maxent_rl.settings import Weight
from maxent_rl.types import Array, LoggedTransition, Metrics


@struct.dataclass
class CQLDiscrete(DQN):
    """Double DQN with a penalty on values of actions other than the data's."""

    conservative_weight: Weight = 0.1
    """Weight of the penalty beside the loss of values (alpha)."""

    def loss(self, networks: Networks, batch: LoggedTransition, target: Array, key: Array) -> tuple[Array, Metrics]:
        """The loss of values and the penalty."""
        values = self.values(networks, batch.observation)
        value_loss, metrics = self.value_loss(values, batch, target)
        penalty = jnp.mean(losses.conservative_penalty(values, losses.taken_value(values, batch.action)))
        return value_loss + self.conservative_weight * penalty, metrics | {"critic/conservative_penalty": penalty}
