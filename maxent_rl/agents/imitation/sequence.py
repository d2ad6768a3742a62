"""What agents that learn from windows of logged steps have in common: inputs, optimiser, and the memory of an episode."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl.agents.imitation.history import History
from maxent_rl.networks import SequenceConfig
from maxent_rl.settings import Count, Interval, NonNegative, Positive, Settings, Weight, static
from maxent_rl.types import Array, Learns, PyTree, Spec, Windows
from maxent_rl.usage import above

_LEAST_STD = 1e-6


@struct.dataclass
class SequenceState:
    """What the state of every such agent holds.

    Attributes:
      parameters: of the networks.
      optimizer: Adam's state; None where it only acts.
      step: [] int32 updates so far; None where it only acts.
      observation_mean: [observation] over the data.
      observation_std: [observation] likewise, never 0.
      return_scale: [] the largest size of a return to go in the data, by which returns are divided; 1 where all are 0.
      target_return: [] the largest return of an episode of the data.
      memory: of episodes in play; None at their start.
      action_shape: of one action.
      num_actions: number of discrete actions, or None.
    """

    parameters: PyTree
    optimizer: optax.OptState | None
    step: Array | None
    observation_mean: Array
    observation_std: Array
    return_scale: Array
    target_return: Array
    memory: Any
    action_shape: tuple[int, ...] = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    num_actions: int | None = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]

    @classmethod
    def fresh(cls, spec: Spec, parameters: PyTree = None, **further: Any) -> Self:
        """A state that has seen no data.

        Args:
          spec: the environment's shapes.
          parameters: of the networks; None for a state that only says the shapes.
          further: what a subclass adds.
        """
        return cls(
            parameters=parameters,
            optimizer=None if parameters is None else adam().init(parameters),
            step=jnp.zeros((), jnp.int32),
            observation_mean=jnp.zeros(spec.observation_shape),
            observation_std=jnp.ones(spec.observation_shape),
            return_scale=jnp.ones(()),
            target_return=jnp.zeros(()),
            memory=None,
            action_shape=spec.action_shape,
            num_actions=spec.num_actions,
            **further,
        )


AnyState = TypeVar("AnyState", bound=SequenceState)


@struct.dataclass
class SequenceAgent(Settings, abc.ABC, Generic[AnyState]):
    """Reads windows of steps, and while it acts the last steps of its episode."""

    learns: ClassVar[Learns] = "data"
    learns_from: ClassVar[str] = "windows"

    learning_rate: Positive = 1e-4
    """Adam's step size."""
    weight_decay: Weight = 1e-4
    """By how much, times the step size, weights shrink in each update."""
    warmup_steps: Count = 1_000
    """Updates over which the step size rises from 0."""
    clip_norm: Positive = 0.25
    """Largest norm of a gradient."""

    batch_size: Count = static(64)
    """Windows in a batch."""
    context: Count = static(20)
    """Steps that are read up to the present one, which counts among them."""
    width: Count = static(128)
    """Width of the transformers."""
    layers: NonNegative = static(3)
    """Blocks of attention; 0 for plain networks, each of which sees the present step alone."""
    heads: Count = static(1, used_when=above(layers=0))
    """Heads of the attention."""
    dropout: Annotated[float, Interval(0, 1, high_open=True)] = static(0.1, used_when=above(layers=0))
    """Share of each block's output that is dropped in training."""
    longest: NonNegative = static(1_000)
    """Steps of an episode with a learned embedding each, the later ones sharing the last; 0 for none."""

    @abc.abstractmethod
    def outputs_now(self, state: AnyState, observation: Array) -> Array:
        """The policy's outputs [..., outputs] at observations, after what is remembered: logits, or actions before tanh."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses settings that cannot work; see `agents.check_agent`."""
        self._reader_config(0.0)

    def act(self, state: AnyState, observation: Array, key: Array) -> Array:
        """Draws actions: [..., observation] to [..., action]; continuous ones are not random."""
        outputs = self.outputs_now(state, observation)
        return jnp.tanh(outputs) if state.num_actions is None else jax.random.categorical(key, outputs)

    def mode(self, state: AnyState, observation: Array) -> Array:
        """Chooses the most likely actions: [..., observation] to [..., action]."""
        outputs = self.outputs_now(state, observation)
        return jnp.tanh(outputs) if state.num_actions is None else jnp.argmax(outputs, axis=-1)

    def recalling(self, state: AnyState, memory: PyTree) -> AnyState:
        """See `agents.base.Remembers`."""
        return dataclasses.replace(state, memory=memory)

    def acting(self, state: AnyState) -> AnyState:
        """The state without what only learning needs."""
        return dataclasses.replace(state, optimizer=None, step=None)

    def begin(self, state: AnyState, data: Any) -> AnyState:
        """Takes from the data how observations and returns spread."""
        scale = jnp.max(jnp.abs(data.return_to_go))
        return dataclasses.replace(
            state,
            observation_mean=jnp.mean(data.observation, axis=0),
            observation_std=jnp.std(data.observation, axis=0) + _LEAST_STD,
            return_scale=jnp.where(scale > 0, scale, 1.0),
            target_return=jnp.nanmax(data.returns),
        )

    def _start_history(self, state: SequenceState, batch_shape: tuple[int, ...]) -> History:
        size = state.observation_mean.shape[0]
        return History.start(batch_shape, self.context - 1, size, state.action_shape)

    def _descend(self, state: AnyState, gradient: PyTree) -> AnyState:
        """One step of Adam with warm-up and weight decay along a gradient of limited length."""
        direction, optimizer = adam().update(limited(gradient, self.clip_norm), state.optimizer)
        assert state.step is not None
        rate = self.learning_rate * self._warmth(state.step)
        parameters = jax.tree.map(
            lambda old, moved: old - rate * (moved + self.weight_decay * old), state.parameters, direction
        )
        return dataclasses.replace(state, parameters=parameters, optimizer=optimizer, step=state.step + 1)

    def _warmth(self, step: Array) -> Array:
        return jnp.minimum((step + 1.0) / self.warmup_steps, 1.0)

    def _reader_config(self, dropout: float) -> SequenceConfig:
        return SequenceConfig(self.width, self.layers, self.heads, dropout, self.longest)


def adam() -> optax.GradientTransformation:
    """Adam's directions; the step size is applied by whoever knows it. Over one flat vector, as in SAC."""
    return optax.flatten(optax.scale_by_adam())


def limited(gradient: PyTree, largest: Array | float) -> PyTree:
    """The gradient, shortened where its norm over all parameters is larger."""
    norm = jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradient)))
    factor = jnp.minimum(1.0, largest / jnp.maximum(norm, 1e-12))
    return jax.tree.map(lambda leaf: factor * leaf, gradient)


def normalized(state: SequenceState, observation: Array) -> Array:
    """Observations [..., observation] with mean 0 and standard deviation 1 over the data."""
    return (observation - state.observation_mean) / state.observation_std


def action_inputs(state: SequenceState, action: Array) -> Array:
    """Actions as networks read them [..., action]: discrete ones as one-hot vectors."""
    if state.num_actions is None:
        return action
    return jax.nn.one_hot(action.astype(jnp.int32), state.num_actions)


def action_outputs(state: SequenceState) -> int:
    """Outputs of a policy: a logit for each discrete action, or an action before tanh."""
    return math.prod(state.action_shape) if state.num_actions is None else state.num_actions


def action_loss(state: SequenceState, outputs: Array, action: Array) -> Array:
    """[...] minus the log-probability of discrete actions, or the mean squared distance from continuous ones.

    Args:
      state: says which.
      outputs: [..., outputs] logits, or actions before tanh.
      action: [..., action], or [...] discrete ones.
    """
    if state.num_actions is None:
        return jnp.mean((jnp.tanh(outputs) - action) ** 2, axis=-1)
    one_hot = action_inputs(state, action)
    return -jnp.sum(one_hot * jax.nn.log_softmax(outputs), axis=-1)


def cleared(batch: Windows) -> Windows:
    """The windows with zeros at padded places, whatever stood there."""

    def clear(leaf: Array) -> Array:
        mask = batch.mask.reshape(batch.mask.shape + (1,) * (leaf.ndim - batch.mask.ndim))
        return jnp.where(mask > 0, leaf, jnp.zeros((), leaf.dtype))

    cleared: Windows = jax.tree.map(clear, batch)
    return cleared


def flat(window: Windows) -> Windows:
    """Windows with any leading axes [..., T] as one batch [B, T]."""
    leading = window.mask.ndim - 1
    flattened: Windows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[leading:]), window)
    return flattened
