"""ReBRAC: TD3+BC with a second penalty in the critics' targets, normalised critics, and deeper networks.

Source: Revisiting the Minimalist Approach to Offline Reinforcement Learning (arXiv 2305.09836), section 3.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.offline.td3 import OfflineTD3, TD3State
from maxent_rl.settings import Count, Positive, Weight, static
from maxent_rl.types import Array, LoggedTransition, Metrics, PyTree

__all__ = ["ReBRAC", "TD3State"]


@struct.dataclass
class ReBRAC(OfflineTD3):
    """ReBRAC: the policy pays for its distance from the data's action, the next value for that from the data's next one."""

    learning_rate: Positive = 1e-3
    """Adam's step size for all networks."""
    actor_penalty: Weight = 0.01
    """Weight of the squared distance in the policy's loss (beta_1)."""
    critic_penalty: Weight = 0.01
    """Weight of the squared distance in the critics' targets (beta_2)."""

    batch_size: Count = static(1024)
    """Transitions in a batch."""
    hidden_sizes: tuple[Count, ...] = static((256, 256, 256))
    """Width of each hidden layer of all networks."""
    critic_layer_norm: bool = static(True)
    """Layer normalisation in the critics' hidden layers."""

    # The paper chooses both weights for each data set, from 0.001 to 0.1 for the policy and 0 to 0.5 for the critics on
    # locomotion tasks; 0.01 is near most of its choices there. Its code normalises after the activation, here it is before.

    def policy_loss(self, critics: PyTree, batch: LoggedTransition, action: Array) -> tuple[Array, Metrics]:
        """The least critic's value over its mean size against the squared distance, summed over action dimensions."""
        q = jnp.min(self.values(critics, batch.observation, action), axis=0)
        distance = jnp.sum((action - batch.action) ** 2, axis=-1)
        loss = jnp.mean(losses.behavior_regularized_loss(q, distance, 1.0, self.actor_penalty))
        return loss, {"actor/q_mean": jnp.mean(q), "actor/distance": jnp.mean(distance)}

    def next_penalty(self, batch: LoggedTransition, next_action: Array) -> Array:
        """The weighted squared distance [batch] from the data's next action; 0 where the data has none."""
        distance = jnp.sum((next_action - batch.next_action) ** 2, axis=-1)
        return self.critic_penalty * jnp.where(batch.followed > 0, distance, 0.0)
