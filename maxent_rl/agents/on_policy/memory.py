"""PPO's family with a memory: policies that act on what they have seen of an episode, read by a network of their own.

The reader's parameters are learned with the policy's, through whole windows of steps; `networks.episode_memory` has the
readers. Without a history all here is PPO, to the bit.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.agents.base import images_in_words
from maxent_rl.agents.on_policy.minibatches import Samples
from maxent_rl.agents.on_policy.ppo import PPO, PPOState
from maxent_rl.distributions import Distribution
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks import AttentionReader, EpisodeReader, RecurrentReader
from maxent_rl.settings import Count, static
from maxent_rl.types import Array, PyTree, Spec, Transition
from maxent_rl.usage import unless, when

_READER = unless(history="none")


@struct.dataclass
class RecallingState(PPOState):
    """PPO's state, and what belongs to episodes.

    Attributes:
      memory: of episodes in play, or of those at the beginning of a window to learn from; None where nothing is remembered.
      input_size: leading entries of an observation that the networks read.
      longest: steps of an episode that are remembered, at most.
    """

    memory: PyTree = None
    input_size: int = struct.field(pytree_node=False, default=0)  # type: ignore[no-untyped-call]
    longest: int = struct.field(pytree_node=False, default=0)  # type: ignore[no-untyped-call]


@struct.dataclass
class WindowSamples(Samples):
    """Samples of a policy that remembers, whose first axes are [time, env] or [batch, time].

    Attributes:
      memory: [env or batch, ...] at the beginning of the window.
      fresh: [time, env] or [batch, time] 1 where an episode begins.
    """

    memory: PyTree
    fresh: Array


@struct.dataclass
class RecallingPPO(PPO):
    """PPO whose policy may read the episode so far; its value function reads the observation alone."""

    history: Literal["none", "recurrent", "transformer"] = static("none")
    """What the policy sees of the episode before the present observation."""
    history_size: Count = static(128, used_when=_READER)
    """Width of the recurrent or attention layers."""
    history_layers: Count = static(2, used_when=_READER)
    """Number of recurrent or attention layers."""
    history_heads: Count = static(4, used_when=when(history="transformer"))
    """Heads of the attention; twice as many must divide the width."""
    context: Count = static(128, used_when=when(history="transformer"))
    """The most steps that the transformer remembers: at least the horizon."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        super().check(spec, env)
        if self.history != "none" and spec.frames:
            raise IncompatibleEnvironmentError(
                f"--history {self.history} reads numbers, not pixels, but {env} shows {images_in_words(spec)}: leave it out."
            )
        if self.history == "transformer":
            if spec.horizon > self.context:
                raise InvalidSettingError(
                    f"--context {self.context} is less than the {spec.horizon} steps of an episode of {env}, all of which "
                    f"the transformer remembers: --context {spec.horizon} would do."
                )
            if self.history_size % (2 * self.history_heads):
                raise InvalidSettingError(
                    f"--history-size must be a multiple of twice --history-heads, got {self.history_size} and "
                    f"{self.history_heads}."
                )

    def init(self, key: Array, spec: Spec) -> RecallingState:
        """Builds the state of one seed; see `PPO.init`."""
        state, longest = super().init(key, spec), min(spec.horizon, self.context)
        return RecallingState(**_fields(state), input_size=spec.observation_size, longest=longest)

    def init_parameters(self, key: Array, spec: Spec) -> dict[str, PyTree]:
        """Draws the parameters of every network, by name: "policy", "value", and "reader" where there is a history."""
        if self.history == "none":
            return super().init_parameters(key, spec)
        size = spec.observation_size
        wide = dataclasses.replace(spec, observation_shape=(size + self.history_size,))
        parameters = super().init_parameters(key, wide)
        value_key, reader_key = jax.random.split(jax.random.fold_in(key, 1))
        parameters["value"] = self._value_network().init(value_key, jnp.zeros(size))
        memory = self._reader.start((1,), size, 1)
        parameters["reader"] = cast(nn.Module, self._reader).init(reader_key, memory, jnp.zeros((1, size)))
        return parameters

    def distribution(self, state: PPOState, observation: Array) -> Distribution:
        """The policy's distribution at observations [..., observation], after what the state recalls of their episodes."""
        inputs = self._normalize(state, observation)
        if self.history == "none":
            return self.policy(state.parameters, inputs)
        _, features = self._read(cast(RecallingState, state), inputs)
        return self.policy(state.parameters, jnp.concatenate([inputs, features], axis=-1))

    def memory(self, state: RecallingState, batch_shape: tuple[int, ...]) -> PyTree:
        """See `agents.base.Remembers`; nothing without a history."""
        return () if self.history == "none" else self._reader.start(batch_shape, state.input_size, state.longest)

    def recalling(self, state: RecallingState, memory: PyTree) -> RecallingState:
        """See `agents.base.Remembers`."""
        return state if self.history == "none" else dataclasses.replace(state, memory=memory)

    def remember(
        self, state: RecallingState, memory: PyTree, observation: Array, action: Array, reward: Array
    ) -> PyTree:
        """See `agents.base.Remembers`: the observation alone is remembered."""
        if self.history == "none":
            return ()
        return self._read(self.recalling(state, memory), self._normalize(state, observation))[0]

    def acting(self, state: PPOState) -> PPOState:
        """The state without what only learning needs."""
        acts = {name: kept for name, kept in state.parameters.items() if name != "value"}
        bare = {"optimizer": None, "log_alpha": None, "temperature_optimizer": None, "reward_scale": None}
        return dataclasses.replace(state, parameters=acts, **bare)

    def evaluate(self, state: PPOState, batch: Transition) -> tuple[PPOState, Samples]:
        """As `PPO.evaluate`; of a policy that remembers also with what it remembered as the window began."""
        after, samples = super().evaluate(state, batch)
        if self.history == "none":
            return after, samples
        return after, WindowSamples(**_fields(samples), memory=self._recalled(state, batch), fresh=_beginnings(batch))

    def window_policy(self, state: PPOState, observation: Array, batch: Transition) -> Distribution:
        """The policy at each step of a window [time, env], as it was when it acted; see `PPO.window_policy`."""
        if self.history == "none":
            return super().window_policy(state, observation, batch)
        seen, fresh = (jnp.swapaxes(leaf, 0, 1) for leaf in (observation, _beginnings(batch)))
        features = self._read_window(state.parameters, self._recalled(state, batch), seen, fresh)
        inputs = jnp.concatenate([observation, jnp.swapaxes(features, 0, 1)], axis=-1)
        return self.policy(state.parameters, inputs)

    def policy_at(self, parameters: dict[str, PyTree], samples: Samples) -> Distribution:
        """The policy at a minibatch's observations, read in order from its windows' beginnings where there is a history."""
        if not isinstance(samples, WindowSamples):
            return super().policy_at(parameters, samples)
        features = self._read_window(parameters, samples.memory, samples.observation, samples.fresh)
        return self.policy(parameters, jnp.concatenate([samples.observation, features], axis=-1))

    def units(self, samples: Samples) -> Samples:
        """What is shuffled and shared: single steps, or all steps of an environment where there is a history."""
        if not isinstance(samples, WindowSamples):
            return super().units(samples)
        memory, bare = samples.memory, dataclasses.replace(samples, memory=None)
        turned: WindowSamples = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), bare)
        return dataclasses.replace(turned, memory=memory)

    def _recalled(self, state: PPOState, batch: Transition) -> PyTree:
        """What was remembered as a window [time, env] began."""
        memory = cast(RecallingState, state).memory
        return self.memory(cast(RecallingState, state), batch.reward.shape[1:]) if memory is None else memory

    def _read(self, state: RecallingState, inputs: Array) -> tuple[PyTree, Array]:
        """The memory after a step, and its features, from inputs [..., input] and what the state recalls."""
        memory = self.memory(state, inputs.shape[:-1]) if state.memory is None else state.memory
        read = cast(nn.Module, self._reader).apply(state.parameters["reader"], memory, inputs)
        return cast(tuple[PyTree, Array], read)

    def _read_window(self, parameters: dict[str, PyTree], memory: PyTree, inputs: Array, fresh: Array) -> Array:
        """Features [batch, time, feature] of windows."""
        reader: Any = self._reader
        return cast(Array, reader.apply(parameters["reader"], memory, inputs, fresh, method="over"))

    @property
    def _reader(self) -> EpisodeReader:
        if self.history == "recurrent":
            return RecurrentReader(self.history_size, self.history_layers)
        return AttentionReader(self.history_size, self.history_layers, self.history_heads)

    def _check_minibatches(self, spec: Spec) -> None:
        if self.history == "none":
            super()._check_minibatches(spec)
        elif spec.num_envs % self.minibatches:
            raise InvalidSettingError(
                f"--minibatches {self.minibatches} cannot share {spec.num_envs} environments evenly (--num-envs): the steps "
                "of one stay together, as the policy has a history."
            )


def _fields(whole: Any) -> dict[str, Any]:
    """The fields of a dataclass instance by name, as they are."""
    return {field.name: getattr(whole, field.name) for field in dataclasses.fields(whole)}


def _beginnings(batch: Transition) -> Array:
    """[time, env] 1 where an episode begins: after an end. What comes before the window is for its memory to say."""
    done = jnp.maximum(batch.terminated, batch.truncated)
    return jnp.concatenate([jnp.zeros_like(done[:1]), done[:-1]])
