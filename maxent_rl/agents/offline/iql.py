"""Implicit Q-Learning: values of the best actions in the data, without ever asking critics about others.

Source: Offline Reinforcement Learning with Implicit Q-Learning (arXiv 2110.06169); the order of the update (value, policy,
critics, targets) is that of the authors' code.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.offline.base import OfflineActorCritic, OfflineState
from maxent_rl.distributions import Gaussian
from maxent_rl.errors import InvalidSettingError
from maxent_rl.networks import BoundedMeanGaussianPolicy, TrunkPlan, ValueFunction
from maxent_rl.settings import Finite, Interval, Positive, Weight
from maxent_rl.types import Array, LoggedTransition, Metrics, PyTree, Spec

Expectile = Annotated[float, Interval(0, 1, low_open=True, high_open=True)]


@struct.dataclass
class IQLState(OfflineState):
    """All that learning changes.

    Attributes:
      value: parameters of the state value.
      value_optimizer: Adam's state for it.
    """

    value: PyTree
    value_optimizer: optax.OptState | None


@struct.dataclass
class IQL(OfflineActorCritic):
    """IQL: state values by expectile regression, the policy by advantage-weighted cloning."""

    expectile: Expectile = 0.7
    """Expectile of the critics' values that the state value is (tau of the paper): 0.5 the mean, towards 1 the best."""
    inverse_temperature: Weight = 3.0
    """Weight of advantages in cloning (beta): 0 is behaviour cloning."""
    largest_weight: Positive = 100.0
    """The largest weight of an action in cloning."""
    log_std_min: Finite = -5.0
    """Lower bound of the policy's log standard deviations."""
    log_std_max: Finite = 2.0
    """Upper bound of the policy's log standard deviations."""

    # The authors let the policy's step size fall to 0 along a cosine over the million updates of a run; an agent here does not
    # know how many updates there will be, and its step size is constant. They initialise all networks orthogonally, here the
    # state value alone is.

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        if not self.log_std_min < self.log_std_max:
            raise InvalidSettingError("--log-std-min must be less than --log-std-max.")
        super().check(spec, env)

    def init(self, key: Array, spec: Spec) -> IQLState:
        """Builds the state of one seed; targets are copies.

        Args:
          key: [] random key.
          spec: the environment's shapes.
        """
        policy_key, critic_key, value_key = jax.random.split(key, 3)
        observation = jnp.zeros(spec.observation_shape)
        network = self._policy_network(spec.action_size)
        policy = network.init(policy_key, observation, self.log_std_min, self.log_std_max)
        value = self._value_network().init(value_key, observation)
        return IQLState(
            **self._common(policy, critic_key, spec), value=value, value_optimizer=self._optimizer().init(value)
        )

    def act(self, state: IQLState, observation: Array, key: Array) -> Array:
        """Draws actions: [..., observation] to [..., action]; they can lie outside the box, to which environments clip."""
        return self.policy(state.policy, self._normalize(state, observation)).sample(key)

    def policy(self, parameters: PyTree, observation: Array) -> Gaussian:
        """The policy at normalised observations [..., observation]."""
        network = self._policy_network(int(parameters["params"]["log_std"].shape[-1]))
        return cast(Gaussian, network.apply(parameters, observation, self.log_std_min, self.log_std_max))

    def value(self, parameters: PyTree, observation: Array) -> Array:
        """State values [...] at normalised observations, in units of return."""
        return cast(Array, self._value_network().apply(parameters, observation))

    def update(self, state: IQLState, batch: LoggedTransition, key: Array) -> tuple[IQLState, Metrics]:
        """One gradient step for state value, policy and critics, and the targets.

        Args:
          state: the state of one seed.
          batch: with leading axis [batch].
          key: not used: nothing is random here.

        Returns:
          (state, metrics): values, advantages and losses in units of return, log-probabilities in nats.
        """
        batch = self._normalized(state, batch)
        q = jnp.min(self.values(state.target_critics, batch.observation, batch.action), axis=0)
        state, value_metrics = self.update_value(state, batch, q)
        # One pass over both, in one product of twice as many rows.
        both = self.value(state.value, jnp.stack([batch.observation, batch.next_observation]))
        state, policy_metrics = self.update_policy(state, batch, q - both[0])
        state, critic_metrics = self.update_critics(state, batch, self.target(batch, both[1]))
        targets = self._follow(state.critics, state.target_critics)
        return dataclasses.replace(state, target_critics=targets), value_metrics | policy_metrics | critic_metrics

    def update_value(self, state: IQLState, batch: LoggedTransition, q: Array) -> tuple[IQLState, Metrics]:
        """Moves the state value to an expectile of the data's action values q [batch] (equation 5)."""

        def loss(parameters: PyTree) -> tuple[Array, Metrics]:
            value = self.value(parameters, batch.observation)
            return jnp.mean(losses.expectile_loss(q - value, self.expectile)), {"value/mean": jnp.mean(value)}

        value, optimizer, found, metrics = self._descend(loss, state.value, state.value_optimizer)
        return dataclasses.replace(state, value=value, value_optimizer=optimizer), {"value/loss": found, **metrics}

    def update_policy(self, state: IQLState, batch: LoggedTransition, advantage: Array) -> tuple[IQLState, Metrics]:
        """Clones the data's actions, weighted by their advantages [batch] (equation 7)."""
        weight = losses.advantage_weight(advantage, self.inverse_temperature, self.largest_weight)

        def loss(policy: PyTree) -> tuple[Array, Metrics]:
            log_prob = self.policy(policy, batch.observation).log_prob(batch.action)
            found = jnp.mean(losses.weighted_cloning_loss(log_prob, weight))
            return found, {"data/log_prob": jnp.mean(log_prob)}

        policy, optimizer, found, metrics = self._descend(loss, state.policy, state.policy_optimizer)
        metrics |= {"actor/loss": found, "actor/weight_mean": jnp.mean(weight), "actor/advantage": jnp.mean(advantage)}
        return dataclasses.replace(state, policy=policy, policy_optimizer=optimizer), metrics

    def _mode(self, policy: PyTree, observation: Array) -> Array:
        return self.policy(policy, observation).mode()

    def _policy_network(self, action_size: int) -> BoundedMeanGaussianPolicy:
        return BoundedMeanGaussianPolicy(TrunkPlan(hidden_sizes=self.hidden_sizes), action_size)

    def _value_network(self) -> ValueFunction:
        return ValueFunction(self.hidden_sizes, "relu")
