"""Double DQN for random mixtures of many values for each action, all of one last layer.

Source: An Optimistic Perspective on Offline Reinforcement Learning (arXiv 1907.04543).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.agents.values.base import Networks, mix_heads
from maxent_rl.agents.values.dqn import DQN
from maxent_rl.settings import Count, static
from maxent_rl.types import Array


@struct.dataclass
class REM(DQN):
    """Random ensemble mixture: each update is one of double DQN for a random mixture of many heads; it acts on their mean."""

    num_heads: Count = static(200)
    """Values of each action that are mixed."""

    def outputs(self, num_actions: int) -> dict[str, int]:
        """How many outputs each network has, by its name."""
        return {"q": self.num_heads * num_actions}

    def values(self, networks: Networks, observation: Array) -> Array:
        """The mean of the heads' values, [..., choice]."""
        return self.forward(mix_heads(networks["q"], jnp.full(self.num_heads, 1.0 / self.num_heads)), observation)

    def trained_values(self, networks: Networks, observation: Array, key: Array) -> Array:
        """A random mixture of the heads' values, [..., choice]: the same mixture wherever the key is."""
        return self.forward(mix_heads(networks["q"], self.mixture(key)), observation)

    def mixture(self, key: Array) -> Array:
        """[head] weights that sum to 1: uniform numbers over their sum."""
        drawn = jax.random.uniform(key, (self.num_heads,))
        return drawn / jnp.sum(drawn)
