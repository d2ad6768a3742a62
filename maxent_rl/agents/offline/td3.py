"""What TD3+BC and ReBRAC share: TD3 on fixed data, with a policy that is held near the data's actions.

Source: Addressing Function Approximation Error in Actor-Critic Methods (arXiv 1802.09477), algorithm 1: clipped double
critics, smoothed target actions, and a policy (with all targets) that learns more seldom than the critics.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.delay import in_any_seed
from maxent_rl.agents.offline.base import OfflineActorCritic, OfflineState
from maxent_rl.networks import Critic, DeterministicPolicy, TrunkPlan
from maxent_rl.settings import Count, Weight, static
from maxent_rl.types import Array, LoggedTransition, Metrics, PyTree, Spec


@struct.dataclass
class TD3State(OfflineState):
    """All that learning changes.

    Attributes:
      target_policy: the policy's slow copy.
      step: [] int32 updates so far.
      policy_metrics: of the last step of the policy, for the updates without one.
    """

    target_policy: PyTree
    step: Array | None
    policy_metrics: Metrics | None


class _Delayed(NamedTuple):
    """What changes only when the policy learns."""

    policy: PyTree
    target_policy: PyTree
    target_critics: PyTree
    policy_optimizer: optax.OptState | None
    policy_metrics: Metrics | None


@struct.dataclass
class OfflineTD3(OfflineActorCritic):
    """The family's common part: a deterministic policy and clipped double critics."""

    policy_noise: Weight = 0.2
    """Standard deviation of the noise on target actions, which smooths the critics."""
    noise_clip: Weight = 0.5
    """The largest size of that noise."""

    policy_delay: Count = static(2)
    """Updates of the critics for each of the policy and the targets."""

    @abc.abstractmethod
    def policy_loss(self, critics: PyTree, batch: LoggedTransition, action: Array) -> tuple[Array, Metrics]:
        """The loss of the policy's actions [batch, action], a scalar, and metrics."""

    def next_penalty(self, batch: LoggedTransition, next_action: Array) -> Array | float:
        """What is taken off the value of a policy's next action [batch, action]: nothing, where only the policy is held."""
        return 0.0

    def init(self, key: Array, spec: Spec) -> TD3State:
        """Builds the state of one seed; targets are copies.

        Args:
          key: [] random key.
          spec: the environment's shapes.
        """
        policy_key, critic_key = jax.random.split(key)
        policy = self._policy_network(spec.action_size).init(policy_key, jnp.zeros(spec.observation_shape))
        zero = jnp.zeros(())
        return TD3State(
            **self._common(policy, critic_key, spec),
            target_policy=jax.tree.map(jnp.copy, policy),
            step=jnp.zeros((), jnp.int32),
            policy_metrics={"actor/loss": zero, "actor/q_mean": zero, "actor/distance": zero},
        )

    def update(self, state: TD3State, batch: LoggedTransition, key: Array) -> tuple[TD3State, Metrics]:
        """One gradient step for the critics; for the policy and the targets in one of `policy_delay` updates.

        Args:
          state: the state of one seed.
          batch: with leading axis [batch].
          key: [] of the noise on target actions.

        Returns:
          (state, metrics): values and losses in units of return; the policy's are those of its last step.
        """
        batch = self._normalized(state, batch)
        state, metrics = self.update_critics(state, batch, self.next_target(state, batch, key))
        # The authors' code counts from 1 and begins with the second update; here the first has all metrics already.
        due = cast(Array, state.step) % self.policy_delay == 0
        names = _Delayed._fields
        old = _Delayed(*(getattr(state, name) for name in names))

        def learn(old: _Delayed) -> _Delayed:
            new = self._learn_delayed(old, state.critics, batch)
            return cast(_Delayed, jax.tree.map(lambda after, before: jnp.where(due, after, before), new, old))

        after = learn(old) if self.policy_delay == 1 else jax.lax.cond(in_any_seed(due), learn, lambda old: old, old)
        state = dataclasses.replace(state, step=cast(Array, state.step) + 1, **after._asdict())
        return state, metrics | cast(Metrics, after.policy_metrics)

    def next_target(self, state: TD3State, batch: LoggedTransition, key: Array) -> Array:
        """The critics' targets [batch]: of the least target critic at a smoothed action of the target policy."""
        noise = jax.random.normal(key, batch.action.shape)
        chosen = self._mode(state.target_policy, batch.next_observation)
        next_action = losses.smoothed_action(chosen, noise, self.policy_noise, self.noise_clip)
        next_q = jnp.min(self.values(state.target_critics, batch.next_observation, next_action), axis=0)
        return self.target(batch, next_q - self.next_penalty(batch, next_action))

    def first_value(self, critics: PyTree, observation: Array, action: Array) -> Array:
        """The first critic's values [...] alone: what TD3's policy climbs."""
        network = Critic(self._critic_trunk())
        return cast(Array, network.apply({"params": critics["params"]["critic_0"]}, observation, action))

    def _learn_delayed(self, old: _Delayed, critics: PyTree, batch: LoggedTransition) -> _Delayed:
        def loss(policy: PyTree) -> tuple[Array, Metrics]:
            return self.policy_loss(critics, batch, self._mode(policy, batch.observation))

        policy, optimizer, value, metrics = self._descend(loss, old.policy, old.policy_optimizer)
        return _Delayed(
            policy=policy,
            target_policy=self._follow(policy, old.target_policy),
            target_critics=self._follow(critics, old.target_critics),
            policy_optimizer=optimizer,
            policy_metrics={"actor/loss": value, **metrics},
        )

    def _mode(self, policy: PyTree, observation: Array) -> Array:
        network = self._policy_network(int(policy["params"]["head"]["bias"].shape[-1]))
        return cast(Array, network.apply(policy, observation))

    def _policy_network(self, action_size: int) -> DeterministicPolicy:
        return DeterministicPolicy(TrunkPlan(hidden_sizes=self.hidden_sizes), action_size)
