"""Behaviour cloning: the likeliest policy for the actions of a data set.

Source: Alvinn: An Autonomous Land Vehicle in a Neural Network (NeurIPS 1988); the defaults are those of A Dataset Perspective
on Offline Reinforcement Learning (arXiv 2111.04714), which has it among the methods that its measures tell apart.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.distributions import Categorical, TanhGaussian
from maxent_rl.errors import InvalidSettingError
from maxent_rl.networks import Activation, FeedForward
from maxent_rl.settings import Count, Finite, Positive, Settings, setting, static
from maxent_rl.types import Array, Learns, LoggedTransition, Metrics, PyTree, Spec
from maxent_rl.usage import CONTINUOUS, when

_GAUSSIAN = when(density="gaussian") & CONTINUOUS

Kind = Literal["categorical", "deterministic", "gaussian"]


@struct.dataclass
class BCState:
    """All that learning changes.

    Attributes:
      policy: parameters of the policy, below the name of its kind.
      optimizer: Adam's state.
    """

    policy: dict[Kind, PyTree]
    optimizer: optax.OptState | None


@struct.dataclass
class BC(Settings):
    """Behaviour cloning, offline, for discrete and continuous actions: it needs no rewards, and is as good as the data."""

    learns: ClassVar[Learns] = "data"
    learns_from: ClassVar[str] = "transitions"

    learning_rate: Positive = 1e-4
    """Adam's step size."""
    log_std_min: Finite = setting(-5.0, used_when=_GAUSSIAN)
    """Lower bound of the policy's log standard deviation before squashing, for --density gaussian."""
    log_std_max: Finite = setting(2.0, used_when=_GAUSSIAN)
    """Upper bound of it."""

    batch_size: Count = static(128)
    """Transitions in a batch."""
    hidden_sizes: tuple[Count, ...] = static((256, 256, 256))
    """Width of each hidden layer."""
    activation: Activation = static("selu")
    """After each hidden layer; weights are LeCun-normal, as SELU wants them."""
    density: Literal["deterministic", "gaussian"] = static("deterministic", used_when=CONTINUOUS)
    """Continuous actions by least squares, or by the likelihood of a tanh-Gaussian; discrete ones are always categorical."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses settings that cannot work; see `agents.check_agent`."""
        if not self.log_std_min < self.log_std_max:
            raise InvalidSettingError("--log-std-min must be less than --log-std-max.")

    def init(self, key: Array, spec: Spec) -> BCState:
        """Builds the state of one seed.

        Args:
          key: [] random key.
          spec: the environment's shapes.
        """
        kind: Kind = "categorical" if spec.num_actions is not None else self.density
        outputs = spec.num_actions or (2 if kind == "gaussian" else 1) * spec.action_size
        policy = {kind: self._network(outputs).init(key, jnp.zeros(spec.observation_shape))}
        return BCState(policy, self._optimizer().init(policy))

    def act(self, state: BCState, observation: Array, key: Array) -> Array:
        """Draws actions: [..., observation] to [..., action]; a deterministic policy has but one."""
        kind, outputs = self._forward(state.policy, observation)
        return jnp.tanh(outputs) if kind == "deterministic" else self._distribution(kind, outputs).sample(key)

    def mode(self, state: BCState, observation: Array) -> Array:
        """Chooses the likeliest actions: [..., observation] to [..., action]."""
        kind, outputs = self._forward(state.policy, observation)
        return jnp.tanh(outputs) if kind == "deterministic" else self._distribution(kind, outputs).mode()

    def acting(self, state: BCState) -> BCState:
        """The state without what only learning needs."""
        return dataclasses.replace(state, optimizer=None)

    def log_prob(self, policy: dict[Kind, PyTree], observation: Array, action: Array) -> Array:
        """Log-probability [...] in nats of actions [..., action]; of a deterministic policy up to factor and constant."""
        kind, outputs = self._forward(policy, observation)
        if kind == "deterministic":
            return losses.squared_error_log_prob(action, jnp.tanh(outputs))
        return self._distribution(kind, outputs).log_prob(action)

    def update(self, state: BCState, batch: LoggedTransition, key: Array) -> tuple[BCState, Metrics]:
        """One gradient step up the mean log-probability of the batch's actions.

        Args:
          state: the state of one seed.
          batch: [batch] transitions.
          key: not used.

        Returns:
          (state, metrics): in nats.
        """

        def loss(policy: dict[Kind, PyTree]) -> Array:
            return -jnp.mean(self.log_prob(policy, batch.observation, batch.action))

        value, gradient = jax.value_and_grad(loss)(state.policy)
        direction, optimizer = self._optimizer().update(gradient, state.optimizer)
        policy = cast("dict[Kind, PyTree]", optax.apply_updates(state.policy, direction))
        return BCState(policy, optimizer), {"imitation/loss": value}

    def _forward(self, policy: dict[Kind, PyTree], observation: Array) -> tuple[Kind, Array]:
        ((kind, parameters),) = policy.items()
        network = self._network(int(parameters["params"]["head"]["bias"].shape[-1]))
        return kind, cast(Array, network.apply(parameters, observation))

    def _distribution(self, kind: Kind, outputs: Array) -> Categorical | TanhGaussian:
        if kind == "categorical":
            return Categorical(outputs)
        mean, log_std = jnp.split(outputs, 2, axis=-1)
        return TanhGaussian(mean, jnp.clip(log_std, self.log_std_min, self.log_std_max))

    def _network(self, outputs: int) -> FeedForward:
        return FeedForward(self.hidden_sizes, outputs, self.activation)

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.learning_rate))  # over one flat vector, as in SAC
