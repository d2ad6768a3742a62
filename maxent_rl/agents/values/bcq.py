"""Batch-constrained Q-learning for discrete actions: only actions that the data makes likely are considered.

Source: Benchmarking Batch Deep Reinforcement Learning Algorithms (arXiv 1910.01708), with a behaviour network of its own as in
A Dataset Perspective on Offline Reinforcement Learning (arXiv 2111.04714).
"""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.values.base import Networks, ValueState
from maxent_rl.agents.values.dqn import DQN
from maxent_rl.settings import Interval, Weight
from maxent_rl.types import Array, LoggedTransition, Metrics, Transition


@struct.dataclass
class BCQ(DQN):
    """Double DQN among the actions that a cloned policy finds likely enough, in learning and in acting."""

    threshold: Annotated[float, Interval(0, 1, high_open=True)] = 0.3
    """Least probability of an action, relative to the likeliest one, under the cloned policy."""
    logit_weight: Weight = 0.01
    """Weight of the mean squared logits of the cloned policy."""

    def outputs(self, num_actions: int) -> dict[str, int]:
        """How many outputs each network has, by its name."""
        return {"q": num_actions, "behavior": num_actions}

    def values(self, networks: Networks, observation: Array) -> Array:
        """The value of each action, [..., choice]; -inf of unlikely ones."""
        likely = losses.likely_choices(self.forward(networks["behavior"], observation), self.threshold)
        return jnp.where(likely, self.forward(networks["q"], observation), -jnp.inf)

    def targets(self, state: ValueState, batch: Transition, key: Array) -> Array:
        """[batch] double targets of likely actions, by the cloned policy as it is."""
        assert state.targets is not None
        selecting = self.values(state.networks, batch.next_observation)
        valuing = self.forward(state.targets["q"], batch.next_observation)
        return self.bellman_target(batch, losses.double_q_value(selecting, valuing))

    def loss(self, networks: Networks, batch: LoggedTransition, target: Array, key: Array) -> tuple[Array, Metrics]:
        """The loss of values and that of cloning."""
        value_loss, metrics = self.value_loss(self.forward(networks["q"], batch.observation), batch, target)
        logits = self.forward(networks["behavior"], batch.observation)
        cloning = -jnp.mean(losses.taken_value(jax.nn.log_softmax(logits), batch.action))
        loss = value_loss + cloning + self.logit_weight * jnp.mean(logits**2)
        return loss, metrics | {"imitation/loss": cloning}
