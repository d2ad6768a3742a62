"""What the agents that learn values of finitely many actions share: settings, state, and the update's order.

The settings' defaults are those of A Dataset Perspective on Offline Reinforcement Learning (arXiv 2111.04714). A member of
the family says what values should be (`targets`) and, where it has one of its own, what its loss is.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.errors import IncompatibleEnvironmentError
from maxent_rl.networks import Activation, FeedForward
from maxent_rl.settings import Count, Fraction, Positive, Settings, static
from maxent_rl.types import Array, Metrics, PyTree, Spec, Transition

Networks: TypeAlias = dict[str, PyTree]


@struct.dataclass
class ValueState:
    """All that learning changes.

    Attributes:
      networks: parameters of each network by name: "q", and what else an agent adds.
      targets: copies of them as they were at the last copying; None where an agent has none.
      optimizer: Adam's state for all networks.
      step: [] int32 updates so far.
    """

    networks: Networks
    targets: Networks | None
    optimizer: optax.OptState | None
    step: Array


@struct.dataclass
class ValueBased(Settings, abc.ABC):
    """The family's common part: a network with one value for each action, acted on greedily."""

    learning_rate: Positive = 1e-4
    """Adam's step size."""
    discount: Fraction = 0.99
    """Weight of the next step's value (gamma)."""
    huber_delta: Positive = 1.0
    """Errors of values beyond this, in return, count linearly."""

    batch_size: Count = static(128)
    """Transitions in a batch."""
    hidden_sizes: tuple[Count, ...] = static((256, 256, 256))
    """Width of each hidden layer."""
    activation: Activation = static("selu")
    """After each hidden layer; weights are LeCun-normal, as SELU wants them."""

    @abc.abstractmethod
    def targets(self, state: ValueState, batch: Any, key: Array) -> Array:
        """What the values of a batch's actions should be, with leading axis [batch], in units of return."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        if spec.num_actions is None:
            raise IncompatibleEnvironmentError(
                f"{type(self).__name__} needs discrete actions, but {env} has continuous ones; {self.instead()}."
            )

    def instead(self) -> str:
        """Where to turn with continuous actions, in words."""
        return "--agent iql and --agent cql handle those"

    def init(self, key: Array, spec: Spec) -> ValueState:
        """Builds the state of one seed.

        Args:
          key: [] random key.
          spec: the environment's shapes.
        """
        assert spec.num_actions is not None
        observation, networks = jnp.zeros(spec.observation_shape), {}
        for index, (name, outputs) in enumerate(self.outputs(spec.num_actions).items()):
            networks[name] = self._network(outputs).init(jax.random.fold_in(key, index), observation)
        return ValueState(
            networks=networks,
            targets=None,
            optimizer=self._optimizer().init(networks),
            step=jnp.zeros((), jnp.int32),
        )

    def act(self, state: ValueState, observation: Array, key: Array) -> Array:
        """Chooses actions for collecting: [..., observation] to [...]; the best ones, unless an agent explores."""
        return self.mode(state, observation)

    def mode(self, state: ValueState, observation: Array) -> Array:
        """Chooses the best actions: [..., observation] to [...]."""
        return jnp.argmax(self.values(state.networks, observation), axis=-1).astype(jnp.int32)

    def acting(self, state: ValueState) -> ValueState:
        """The state without what only learning needs."""
        return dataclasses.replace(state, targets=None, optimizer=None)

    def values(self, networks: Networks, observation: Array) -> Array:
        """The value of each action, [..., choice], in units of return, at observations [..., observation]."""
        return self.forward(networks["q"], observation)

    def update(self, state: ValueState, batch: Any, key: Array) -> tuple[ValueState, Metrics]:
        """One gradient step on a batch.

        Args:
          state: the state of one seed.
          batch: [batch] transitions.
          key: [] of what the method draws.

        Returns:
          (state, metrics): losses and values in units of return, likelihoods in nats.
        """
        target = jax.lax.stop_gradient(self.targets(state, batch, key))

        def loss(networks: Networks) -> tuple[Array, Metrics]:
            return self.loss(networks, batch, target, key)

        gradient, metrics = jax.grad(loss, has_aux=True)(state.networks)
        direction, optimizer = self._optimizer().update(gradient, state.optimizer)
        networks = cast(Networks, optax.apply_updates(state.networks, direction))
        state = ValueState(networks, state.targets, optimizer, state.step + 1)
        return state, metrics | {"critic/target_mean": jnp.mean(target)}

    def loss(self, networks: Networks, batch: Any, target: Array, key: Array) -> tuple[Array, Metrics]:
        """What the update descends, and metrics.

        Args:
          networks: parameters.
          batch: [batch] transitions.
          target: as from `targets`; constant.
          key: [] the one that `targets` had.
        """
        return self.value_loss(self.trained_values(networks, batch.observation, key), batch, target)

    def value_loss(
        self, values: Array, batch: Any, target: Array, counted: Array | None = None
    ) -> tuple[Array, Metrics]:
        """The mean Huber loss of the taken actions' values.

        Args:
          values: [batch, choice].
          batch: [batch] transitions.
          target: [batch].
          counted: [batch] where a transition counts; None where all do.
        """
        taken = losses.taken_value(values, batch.action)
        each = losses.temporal_difference_loss(taken, target, self.huber_delta)
        loss = jnp.mean(each) if counted is None else losses.masked_mean(each, counted)
        return loss, {"critic/loss": loss, "critic/q_mean": jnp.mean(taken)}

    def trained_values(self, networks: Networks, observation: Array, key: Array) -> Array:
        """As `values`, for what an update bootstraps from and moves, where that is not what is acted on."""
        return self.values(networks, observation)

    def outputs(self, num_actions: int) -> dict[str, int]:
        """How many outputs each network has, by its name."""
        return {"q": num_actions}

    def forward(self, parameters: PyTree, observation: Array) -> Array:
        """The outputs of a network, whichever it is: [..., observation] to [..., outputs]."""
        network = self._network(int(parameters["params"]["head"]["bias"].shape[-1]))
        return cast(Array, network.apply(parameters, observation))

    def bellman_target(self, batch: Transition, next_value: Array) -> Array:
        """Rewards [batch] and what follows: `next_value` [batch] at the next observation, but for terminal states."""
        return losses.bellman_target(batch.reward, self.discount**batch.steps, batch.terminated, next_value)

    def _network(self, outputs: int) -> FeedForward:
        return FeedForward(self.hidden_sizes, outputs, self.activation)

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.learning_rate))  # over one flat vector, as in SAC


@struct.dataclass
class WithTargets(ValueBased):
    """One that bootstraps from copies of its networks, which stand still for a while."""

    target_every: Count = 100
    """Updates after which the networks are copied into the targets."""

    def init(self, key: Array, spec: Spec) -> ValueState:
        """Builds the state of one seed, the targets equal to the networks."""
        state = super().init(key, spec)
        return dataclasses.replace(state, targets=jax.tree.map(jnp.copy, state.networks))

    def update(self, state: ValueState, batch: Any, key: Array) -> tuple[ValueState, Metrics]:
        """As of the family; after each `target_every` updates the targets become what the networks are."""
        state, metrics = super().update(state, batch, key)
        # Selected, not branched on: with seeds side by side a branch would become a selection of two whole programs.
        due = state.step % self.target_every == 0
        targets = jax.tree.map(lambda new, old: jnp.where(due, new, old), state.networks, state.targets)
        return dataclasses.replace(state, targets=targets), metrics


def mix_heads(parameters: PyTree, weights: Array) -> PyTree:
    """The network whose outputs are a mixture of another's heads, for agents with several values for each action.

    As a last layer is linear, a mixture of its heads' values is the value of the mixture of its weights, which costs as much
    as one head.

    Args:
      parameters: of a network with outputs [choice * head].
      weights: [head].

    Returns:
      Parameters of a network with outputs [choice].
    """
    head, count = parameters["params"]["head"], len(weights)
    mixed = {name: array.reshape(*array.shape[:-1], -1, count) @ weights for name, array in head.items()}
    return {"params": parameters["params"] | {"head": mixed}}
