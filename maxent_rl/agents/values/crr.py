"""Critic-regularised regression for discrete actions: cloning of the actions that are better than the policy's own.

Source: Critic Regularized Regression (arXiv 2006.15134), with the binary filter and the mean of a few samples, as in
A Dataset Perspective on Offline Reinforcement Learning (arXiv 2111.04714).
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.values.base import Networks, ValueState, WithTargets
from maxent_rl.distributions import Categorical
from maxent_rl.settings import Count, static
from maxent_rl.types import Array, Learns, LoggedTransition, Metrics


@struct.dataclass
class CRR(WithTargets):
    """An actor clones what a critic finds better than the actor's average; the critic values the actor."""

    learns: ClassVar[Learns] = "data"
    learns_from: ClassVar[str] = "transitions"

    num_samples: Count = static(4)
    """Actions of the actor whose mean value the data's action must exceed."""

    def outputs(self, num_actions: int) -> dict[str, int]:
        """How many outputs each network has, by its name."""
        return {"q": num_actions, "actor": num_actions}

    def policy(self, networks: Networks, observation: Array) -> Categorical:
        """The actor at observations [..., observation]."""
        return Categorical(self.forward(networks["actor"], observation))

    def distribution(self, state: ValueState, observation: Array) -> Categorical:
        """What `act` draws from at observations [..., observation]."""
        return self.policy(state.networks, observation)

    def act(self, state: ValueState, observation: Array, key: Array) -> Array:
        """Draws actions from the actor: [..., observation] to [...]."""
        return self.distribution(state, observation).sample(key)

    def mode(self, state: ValueState, observation: Array) -> Array:
        """Chooses the actor's likeliest actions: [..., observation] to [...]."""
        return self.distribution(state, observation).mode()

    def acting(self, state: ValueState) -> ValueState:
        """The state without what only learning needs, the values among it."""
        return dataclasses.replace(super().acting(state), networks={"actor": state.networks["actor"]})

    def targets(self, state: ValueState, batch: LoggedTransition, key: Array) -> Array:
        """[batch] by the target critic's value of an action drawn from the target actor."""
        assert state.targets is not None
        action = self.policy(state.targets, batch.next_observation).sample(jax.random.fold_in(key, 0))
        values = self.values(state.targets, batch.next_observation)
        return self.bellman_target(batch, losses.taken_value(values, action))

    def loss(self, networks: Networks, batch: LoggedTransition, target: Array, key: Array) -> tuple[Array, Metrics]:
        """The loss of values, and that of cloning what they find better."""
        values = self.values(networks, batch.observation)
        value_loss, metrics = self.value_loss(values, batch, target)
        policy = self.policy(networks, batch.observation)
        drawn = Categorical(policy.logits[:, None].repeat(self.num_samples, axis=1)).sample(jax.random.fold_in(key, 1))
        better = losses.better_than_policy(
            losses.taken_value(values, batch.action), losses.taken_value(values[:, None], drawn)
        )
        actor_loss = jnp.mean(losses.weighted_cloning_loss(policy.log_prob(batch.action), better))
        own = {"actor/loss": actor_loss, "actor/entropy": jnp.mean(policy.entropy()), "actor/cloned": jnp.mean(better)}
        return value_loss + actor_loss, metrics | own
