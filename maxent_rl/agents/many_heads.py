"""Double DQN with several values for each action, from one last layer: quantiles of the return, or an ensemble.

Both act on the mean of the heads. As a last layer is linear, a mean (or any other mixture) of its heads' values is the value
of the mean of its weights, which costs as much as one head.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.dqn import DQN
from maxent_rl.agents.value_based import Networks, ValueState
from maxent_rl.settings import Count, static
from maxent_rl.types import Array, LoggedTransition, Metrics, PyTree, Transition


def mix_heads(parameters: PyTree, weights: Array) -> PyTree:
    """The network whose outputs are a mixture of another's heads.

    Args:
      parameters: of a network with outputs [head * choice].
      weights: [head].

    Returns:
      Parameters of a network with outputs [choice].
    """
    head = parameters["params"]["head"]
    mixed = {
        "kernel": jnp.einsum("fhc,h->fc", head["kernel"].reshape(head["kernel"].shape[0], len(weights), -1), weights),
        "bias": weights @ head["bias"].reshape(len(weights), -1),
    }
    return {"params": parameters["params"] | {"head": mixed}}


@struct.dataclass
class QRDQN(DQN):
    """Learns quantiles of the return of each action instead of its mean.

    Source: Distributional Reinforcement Learning with Quantile Regression (arXiv 1710.10044).
    """

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
        return found.reshape(*found.shape[:-1], self.num_quantiles, -1)

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


@struct.dataclass
class REM(DQN):
    """Random ensemble mixture: each update is one of double DQN for a random mixture of many heads.

    Source: An Optimistic Perspective on Offline Reinforcement Learning (arXiv 1907.04543).
    """

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
