"""One step of policy improvement: the values of the policy that made the data, acted on greedily.

Nothing here asks for the value of an action that the data lacks, except the last step, the greedy one.

Source: A Dataset Perspective on Offline Reinforcement Learning (arXiv 2111.04714), appendix; the first is that of Regularized
Behavior Value Estimation (arXiv 2103.09575) without its ranking loss.
"""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.value_based import Networks, ValueBased, ValueState
from maxent_rl.settings import Fraction, static
from maxent_rl.types import Array, LoggedTransition, Metrics


@struct.dataclass
class BVE(ValueBased):
    """Behaviour value estimation: bootstraps from the online network's value of the action that the data took next."""

    learns_from: ClassVar[str] = "transitions"

    def targets(self, state: ValueState, batch: LoggedTransition, key: Array) -> Array:
        """[batch] SARSA's targets."""
        following = self.values(state.networks, batch.next_observation)
        return self.bellman_target(batch, losses.taken_value(following, batch.next_action))

    def loss(self, networks: Networks, batch: LoggedTransition, target: Array, key: Array) -> tuple[Array, Metrics]:
        """Of transitions that have a target: terminal ones, and those that the data goes on from."""
        counted = jnp.maximum(batch.terminated, batch.followed)
        return self.value_loss(self.values(networks, batch.observation), batch, target, counted)


@struct.dataclass
class MCE(ValueBased):
    """Monte Carlo estimation: regresses on the discounted return that followed, up to where the episode was cut."""

    learns_from: ClassVar[str] = "transitions"

    discount: Fraction = static(0.99)
    """Weight of the next step's reward (gamma); structural, as the data's returns are summed with it once."""

    def targets(self, state: ValueState, batch: LoggedTransition, key: Array) -> Array:
        """[batch] returns to go."""
        return batch.return_to_go
