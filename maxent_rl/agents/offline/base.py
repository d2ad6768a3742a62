"""What offline actor-critics for continuous actions share: settings, state, acting, critics, and the scale of observations.

A member of the family says what its policy is, and how policy and critics learn from a batch.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.errors import IncompatibleEnvironmentError
from maxent_rl.networks import CriticEnsemble, RunningStatistics, TrunkPlan
from maxent_rl.settings import Count, Fraction, Positive, Settings, static
from maxent_rl.types import Array, Learns, LoggedTransition, Metrics, PyTree, Spec

ParameterLoss: TypeAlias = Callable[[PyTree], tuple[Array, Metrics]]


@struct.dataclass
class OfflineState:
    """All that learning changes in every member of the family.

    Attributes:
      policy: parameters of the policy.
      critics: parameters of the critics.
      target_critics: their slow copies.
      policy_optimizer: Adam's state for the policy.
      critic_optimizer: Adam's state for the critics.
      normalizer: statistics of the data's observations, or None without normalisation.
    """

    policy: PyTree
    critics: PyTree
    target_critics: PyTree
    policy_optimizer: optax.OptState | None
    critic_optimizer: optax.OptState | None
    normalizer: RunningStatistics | None


SomeState = TypeVar("SomeState", bound=OfflineState)


@struct.dataclass
class OfflineActorCritic(Settings, abc.ABC):
    """The family's common part: a policy and critics, learned from logged transitions."""

    learns: ClassVar[Learns] = "data"
    learns_from: ClassVar[str] = "transitions"

    learning_rate: Positive = 3e-4
    """Adam's step size for all networks."""
    discount: Fraction = 0.99
    """Weight of the next step's value (gamma)."""
    target_update_rate: Fraction = 0.005
    """Share of the newest parameters that enters their targets after each update (tau)."""

    batch_size: Count = static(256)
    """Transitions in a batch."""
    hidden_sizes: tuple[Count, ...] = static((256, 256))
    """Width of each hidden layer of all networks."""
    num_critics: Count = static(2)
    """Critics, whose minimum makes targets."""
    critic_layer_norm: bool = static(False)
    """Layer normalisation in the critics' hidden layers."""
    normalize_observations: bool = static(False)
    """Scale observations by the data's mean and standard deviation."""

    @abc.abstractmethod
    def update(self, state: Any, batch: LoggedTransition, key: Array) -> tuple[Any, Metrics]:
        """One gradient step from transitions [batch]; metrics are scalars."""

    @abc.abstractmethod
    def _mode(self, policy: PyTree, observation: Array) -> Array:
        """The most likely actions at normalised observations [..., observation]."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments that cannot work; see `agents.check_agent`."""
        if spec.num_actions is not None:
            raise IncompatibleEnvironmentError(
                f"{type(self).__name__} needs continuous actions (a Box action space), but {env} has {spec.num_actions} "
                "discrete ones; --agent cql-discrete handles those."
            )

    def act(self, state: Any, observation: Array, key: Array) -> Array:
        """Draws actions: [..., observation] to [..., action]; a deterministic policy has but one."""
        return self.mode(state, observation)

    def mode(self, state: Any, observation: Array) -> Array:
        """Chooses the most likely actions: [..., observation] to [..., action]."""
        return self._mode(state.policy, self._normalize(state, observation))

    def acting(self, state: SomeState) -> SomeState:
        """The state without what only learning needs."""
        kept = ("policy", "normalizer")
        return dataclasses.replace(
            state, **{field.name: None for field in dataclasses.fields(state) if field.name not in kept}
        )

    def begin(self, state: SomeState, data: Any) -> SomeState:
        """Takes mean and variance of the data's observations, once: they are fixed, as the data is."""
        if state.normalizer is None:
            return state
        return dataclasses.replace(state, normalizer=state.normalizer.add(data.observations))

    def action_values(self, state: Any, observation: Array, action: Array, key: Array) -> Array:
        """All critics' values [num_critics, ...] of actions at observations as the environment gives them."""
        return self.values(state.critics, self._normalize(state, observation), action)

    def values(self, parameters: PyTree, observation: Array, action: Array) -> Array:
        """All critics' values [num_critics, ...] at normalised observations, in units of return."""
        return cast(Array, self._critic_network().apply(parameters, observation, action))

    def update_critics(self, state: SomeState, batch: LoggedTransition, target: Array) -> tuple[SomeState, Metrics]:
        """Regresses every critic on targets [batch]."""

        def loss(critics: PyTree) -> tuple[Array, Metrics]:
            q = self.values(critics, batch.observation, batch.action)
            return jnp.sum(jnp.mean(losses.critic_loss(q, target), axis=-1)), {"critic/q_mean": jnp.mean(q)}

        critics, optimizer, value, metrics = self._descend(loss, state.critics, state.critic_optimizer)
        state = dataclasses.replace(state, critics=critics, critic_optimizer=optimizer)
        return state, {"critic/loss": value, "critic/target_mean": jnp.mean(target), **metrics}

    def target(self, batch: LoggedTransition, next_value: Array) -> Array:
        """What critics should say [batch], by the values of next observations: no value follows a terminal state alone."""
        return losses.bellman_target(batch.reward, self.discount**batch.steps, batch.terminated, next_value)

    def _descend(
        self, loss: ParameterLoss, parameters: PyTree, optimizer: optax.OptState | None
    ) -> tuple[PyTree, optax.OptState, Array, Metrics]:
        """One step of Adam: (parameters, Adam's state, loss, metrics)."""
        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(parameters)
        step, optimizer = self._optimizer().update(gradient, optimizer)
        return optax.apply_updates(parameters, step), optimizer, value, metrics

    def _follow(self, parameters: PyTree, targets: PyTree) -> PyTree:
        return optax.incremental_update(parameters, targets, self.target_update_rate)

    def _common(self, policy: PyTree, critic_key: Array, spec: Spec) -> dict[str, Any]:
        """The fields of `OfflineState` at the beginning, as arguments."""
        critics = self._critic_network().init(
            critic_key, jnp.zeros(spec.observation_shape), jnp.zeros(spec.action_shape)
        )
        return {
            "policy": policy,
            "critics": critics,
            "target_critics": jax.tree.map(jnp.copy, critics),
            "policy_optimizer": self._optimizer().init(policy),
            "critic_optimizer": self._optimizer().init(critics),
            "normalizer": RunningStatistics.create(spec.observation_size) if self.normalize_observations else None,
        }

    def _critic_network(self) -> CriticEnsemble:
        return CriticEnsemble(self._critic_trunk(), self.num_critics)

    def _critic_trunk(self) -> TrunkPlan:
        return TrunkPlan(hidden_sizes=self.hidden_sizes, norm="layer" if self.critic_layer_norm else "none")

    def _optimizer(self) -> optax.GradientTransformation:
        # Over one flat vector, as in the soft actor-critic family.
        return optax.flatten(optax.adam(self.learning_rate))

    def _normalize(self, state: OfflineState, observation: Array) -> Array:
        return observation if state.normalizer is None else state.normalizer.normalize(observation)

    def _normalized(self, state: OfflineState, batch: LoggedTransition) -> LoggedTransition:
        return dataclasses.replace(
            batch,
            observation=self._normalize(state, batch.observation),
            next_observation=self._normalize(state, batch.next_observation),
        )
