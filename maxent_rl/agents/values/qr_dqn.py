"""Double DQN with quantiles of the return for each action, all of one last layer.

Source: Distributional Reinforcement Learning with Quantile Regression (arXiv 1710.10044).
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.values.base import Networks, ValueState, mix_heads
from maxent_rl.agents.values.dqn import DQN
from maxent_rl.settings import Count, static
from maxent_rl.types import Array, LoggedTransition, Metrics, Transition


@struct.dataclass
class QRDQN(DQN):
    """Learns quantiles of the return of each action instead of its mean, on which it acts."""

    num_quantiles: Count = static(50)
    """Equally likely values that stand for an action's distribution of returns."""

    def outputs(self, num_actions: int) -> dict[str, int]:
        """How many outputs each network has, by its name."""
        return {"q": self.num_quantiles * num_actions}

    def values(self, networks: Networks, observation: Array) -> Array:
        """The mean of each action's quantiles, [..., choice]."""
        even = jnp.full(self.num_quantiles, 1.0 / self.num_quantiles)
        return self.forward(mix_heads(networks["q"], even), observation)

    def quantiles(self, networks: Networks, observation: Array) -> Array:
        """[..., quantile, choice] at observations [..., observation], in units of return."""
        found = self.forward(networks["q"], observation)
        return jnp.swapaxes(found.reshape(*found.shape[:-1], -1, self.num_quantiles), -1, -2)

    def targets(self, state: ValueState, batch: Transition, key: Array) -> Array:
        """[batch, quantile] quantiles of what follows, by the targets, for the action that the online network finds best."""
        assert state.targets is not None
        selecting = self.values(state.networks, batch.next_observation)
        valuing = self.quantiles(state.targets, batch.next_observation)
        following = losses.double_q_value(selecting[..., None, :], valuing)
        discount = self.discount**batch.steps
        return losses.bellman_target(batch.reward[:, None], discount[:, None], batch.terminated[:, None], following)

    def loss(self, networks: Networks, batch: LoggedTransition, target: Array, key: Array) -> tuple[Array, Metrics]:
        """The mean loss of quantile regression."""
        quantiles = losses.taken_value(self.quantiles(networks, batch.observation), batch.action[:, None])
        loss = jnp.mean(losses.quantile_huber_loss(quantiles, target, self.huber_delta))
        return loss, {"critic/loss": loss, "critic/q_mean": jnp.mean(quantiles)}
