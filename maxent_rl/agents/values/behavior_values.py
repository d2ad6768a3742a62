"""One step of policy improvement: the values of the policy that made the data, acted on greedily.

Nothing here asks for the value of an action that the data lacks, except the last step, the greedy one.

Source: A Dataset Perspective on Offline Reinforcement Learning (arXiv 2111.04714), appendix; the first is that of Regularized
Behavior Value Estimation (arXiv 2103.09575) without its ranking loss.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.values.base import Networks, ValueBased, ValueState
from maxent_rl.errors import DataError
from maxent_rl.settings import Fraction, static
from maxent_rl.types import Array, Learns, LoggedTransition, Metrics


@struct.dataclass
class BVE(ValueBased):
    """Behaviour value estimation: bootstraps from the online network's value of the action that the data took next."""

    learns: ClassVar[Learns] = "data"
    learns_from: ClassVar[str] = "transitions"

    def targets(self, state: ValueState, batch: LoggedTransition, key: Array) -> Array:
        """[batch] SARSA's targets; 0 where there is none."""
        following = losses.taken_value(self.values(state.networks, batch.next_observation), batch.next_action)
        return jnp.where(_has_target(batch), self.bellman_target(batch, following), 0.0)

    def loss(self, networks: Networks, batch: LoggedTransition, target: Array, key: Array) -> tuple[Array, Metrics]:
        """Of the transitions that have a target."""
        return self.value_loss(self.values(networks, batch.observation), batch, target, _has_target(batch))


def _has_target(batch: LoggedTransition) -> Array:
    """[batch] terminal transitions, and those that the data goes on from."""
    return (batch.terminated > 0) | (batch.followed > 0)


@struct.dataclass
class MCE(ValueBased):
    """Monte Carlo estimation: regresses on the discounted return that followed, up to where a time limit cut the episode.

    Of an episode that the data itself breaks off nothing is learned: its returns are not known.
    """

    learns: ClassVar[Learns] = "data"
    learns_from: ClassVar[str] = "transitions"

    discount: Fraction = static(0.99)
    """Weight of the next step's reward (gamma); structural, as the data's returns are summed with it once."""

    def check_data(self, data: Any) -> None:
        """Refuses data without the end of an episode; see `agents.base.ChecksData`."""
        if not bool(jnp.isfinite(data.unpack(data.rows).return_to_go).any()):
            raise DataError("mce learns from the returns of whole episodes, and this data set has the end of none.")

    def targets(self, state: ValueState, batch: LoggedTransition, key: Array) -> Array:
        """[batch] returns to go; 0 where they are not known."""
        return jnp.where(_is_known(batch), batch.return_to_go, 0.0)

    def loss(self, networks: Networks, batch: LoggedTransition, target: Array, key: Array) -> tuple[Array, Metrics]:
        """Of the transitions whose return is known."""
        return self.value_loss(self.values(networks, batch.observation), batch, target, _is_known(batch))


def _is_known(batch: LoggedTransition) -> Array:
    """[batch] transitions of episodes that came to an end."""
    return jnp.isfinite(batch.return_to_go)
