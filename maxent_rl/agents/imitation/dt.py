"""Decision Transformer: imitation of logged behaviour, told how much was still to be earned.

It reads triples of return to go, state and action, and learns which action came next; asked for a high return, it acts as
those who got one. Where chance decides that is what the lucky ones did: `doc` is the remedy. Without the return it is plain
cloning with the same network.

Source: Decision Transformer: Reinforcement Learning via Sequence Modeling (arXiv 2106.01345), section 3.
"""

from __future__ import annotations

from typing import Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.agents.imitation.history import History
from maxent_rl.agents.imitation.sequence import (
    SequenceAgent,
    SequenceState,
    action_inputs,
    action_loss,
    action_outputs,
    cleared,
    flat,
    normalized,
)
from maxent_rl.losses import masked_mean
from maxent_rl.networks import SequenceReader
from maxent_rl.settings import Finite, setting, static
from maxent_rl.types import Array, Metrics, PyTree, Spec, Windows
from maxent_rl.usage import unless


@struct.dataclass
class DTMemory:
    """What is remembered of an episode.

    Attributes:
      history: the last steps.
      wanted: [...] return still to be earned.
    """

    history: History
    wanted: Array


@struct.dataclass
class DT(SequenceAgent[SequenceState]):
    """Decision Transformer, for discrete actions (cross-entropy) and continuous ones (squared distance)."""

    target_return: Finite | None = setting(None, used_when=unless(condition="none"))
    """Return to ask for at an episode's start; None for the largest of the data. Rewards are taken off it."""

    condition: Literal["return", "none"] = static("return")
    """none: the networks are told no returns, which makes it behaviour cloning."""

    def init(self, key: Array, spec: Spec) -> SequenceState:
        """Builds the state of one seed.

        Args:
          key: [] random key.
          spec: the environment's shapes.
        """
        blank = SequenceState.fresh(spec)
        reader_key, head_key = jax.random.split(key)
        window = flat(self._start_history(blank, (1,)).window(jnp.zeros((1, spec.observation_size)), jnp.zeros(1)))
        parameters = {
            "reader": self._reader(0.0).init(reader_key, *self._inputs(blank, window)),
            "head": nn.Dense(action_outputs(blank)).init(head_key, jnp.zeros((1, self.width))),
        }
        return SequenceState.fresh(spec, parameters)

    def memory(self, state: SequenceState, batch_shape: tuple[int, ...]) -> DTMemory:
        """See `agents.base.Remembers`."""
        asked = state.target_return if self.target_return is None else self.target_return
        wanted = jnp.broadcast_to(jnp.asarray(asked, jnp.float32), batch_shape)
        return DTMemory(self._start_history(state, batch_shape), wanted)

    def remember(
        self, state: SequenceState, memory: DTMemory, observation: Array, action: Array, reward: Array
    ) -> DTMemory:
        """See `agents.base.Remembers`: what was earned is taken off what is wanted."""
        history = memory.history.push(observation, action, reward, memory.wanted)
        return DTMemory(history, memory.wanted - reward)

    def outputs_now(self, state: SequenceState, observation: Array) -> Array:
        """As of the family, by the return that is still wanted."""
        memory = self.memory(state, observation.shape[:-1]) if state.memory is None else state.memory
        window = memory.history.window(observation, memory.wanted)
        outputs = self._outputs(state, state.parameters, flat(window), None)[:, -1]
        return outputs.reshape(*observation.shape[:-1], -1)

    def update(self, state: SequenceState, batch: Windows, key: Array) -> tuple[SequenceState, Metrics]:
        """One gradient step on the actions of all steps of the windows.

        Args:
          state: the state of one seed.
          batch: [batch] windows.
          key: [] of dropout.

        Returns:
          (state, metrics): the loss in nats for discrete actions, in squared units for others.
        """
        batch = cleared(batch)

        def loss(parameters: PyTree) -> Array:
            outputs = self._outputs(state, parameters, batch, key)
            return masked_mean(action_loss(state, outputs, batch.action), batch.mask)

        value, gradient = jax.value_and_grad(loss)(state.parameters)
        return self._descend(state, gradient), {"policy/loss": value}

    def _outputs(self, state: SequenceState, parameters: PyTree, batch: Windows, dropout_key: Array | None) -> Array:
        """[B, T, outputs] of windows [B, T]."""
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        reader = self._reader(0.0 if dropout_key is None else self.dropout)
        features = reader.apply(parameters["reader"], *self._inputs(state, batch), rngs=rngs)
        return cast(Array, nn.Dense(action_outputs(state)).apply(parameters["head"], features))

    def _inputs(self, state: SequenceState, batch: Windows) -> tuple[Array, ...]:
        asked = batch.return_to_go / state.return_scale
        before = jnp.zeros_like(asked) if self.condition == "none" else asked
        observation, action = normalized(state, batch.observation), action_inputs(state, batch.action)
        return before[..., None], observation, action, batch.timestep, batch.mask

    def _reader(self, dropout: float) -> SequenceReader:
        return SequenceReader(self._reader_config(dropout))
