"""Features of each step from the whole episode up to it, for policies that act on what they have seen.

A reader says what it remembers at the start of episodes (`start`), reads one step while it acts (`now`), and reads a window
of steps that may hold ends of episodes when it learns (`over`), with the same result.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maxent_rl.networks.transformer import TransformerConfig, read_causally

PyTree: TypeAlias = Any


class EpisodeReader(Protocol):
    """What both readers are; parameters are made by `init(key, memory, inputs)` and used by `apply(..., method=...)`."""

    def start(self, batch_shape: tuple[int, ...], input_size: int, context: int) -> PyTree:
        """What is remembered at the start of episodes [*batch_shape] of at most `context` steps."""
        ...

    def __call__(self, memory: PyTree, inputs: Array) -> tuple[PyTree, Array]:
        """Reads one step of each episode.

        Args:
          memory: of the steps before, [...].
          inputs: [..., input] of this step.

        Returns:
          (memory of this step too, features [..., feature]).
        """
        ...

    def over(self, memory: PyTree, inputs: Array, fresh: Array) -> Array:
        """Reads windows of steps.

        Args:
          memory: at the beginning of each window, [batch].
          inputs: [batch, time, input].
          fresh: [batch, time] 1 where an episode begins, and what came before is forgotten.

        Returns:
          [batch, time, feature].
        """
        ...


class RecurrentReader(nn.Module):
    """Gated recurrent units, one on top of the other.

    Attributes:
      size: units of each layer.
      layers: how many.
    """

    size: int
    layers: int

    def setup(self) -> None:
        """Makes the layers."""
        self.cells = [nn.GRUCell(self.size, name=f"cell_{index}") for index in range(self.layers)]

    def start(self, batch_shape: tuple[int, ...], input_size: int, context: int) -> Array:
        """Zeros [*batch_shape, layer, unit]."""
        return jnp.zeros((*batch_shape, self.layers, self.size))

    def __call__(self, memory: Array, inputs: Array) -> tuple[Array, Array]:
        """As `EpisodeReader.__call__`; the memory is [..., layer, unit]."""
        features, states = inputs, []
        for index, cell in enumerate(self.cells):
            state, features = cell(memory[..., index, :], features)
            states.append(state)
        return jnp.stack(states, axis=-2), features

    def over(self, memory: Array, inputs: Array, fresh: Array) -> Array:
        """As `EpisodeReader.over`."""

        def step(reader: RecurrentReader, carried: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            seen, begins = now
            return reader(carried * (1.0 - begins)[:, None, None], seen)

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)
        features: Array = scan(self, memory, (inputs, fresh))[1]
        return features


class Steps(NamedTuple):
    """The steps of an episode so far.

    Attributes:
      inputs: [..., context, input] in order, zeros where there is none yet.
      elapsed: [...] int32 how many.
    """

    inputs: Array
    elapsed: Array


class AttentionReader(nn.Module):
    """A causal transformer over all steps of the episode.

    Attributes:
      size: width of the residual stream.
      layers: blocks of attention.
      heads: of each.
    """

    size: int
    layers: int
    heads: int

    def setup(self) -> None:
        """Makes the embedding and the blocks."""
        self.embed = nn.Dense(self.size)
        self.blocks = _Blocks(self._config)

    def start(self, batch_shape: tuple[int, ...], input_size: int, context: int) -> Steps:
        """No step [*batch_shape], and room for `context` of them."""
        return Steps(jnp.zeros((*batch_shape, context, input_size)), jnp.zeros(batch_shape, jnp.int32))

    def __call__(self, memory: Steps, inputs: Array) -> tuple[Steps, Array]:
        """As `EpisodeReader.__call__`."""
        places = jnp.arange(memory.inputs.shape[-2])
        here = places == memory.elapsed[..., None]
        known = jnp.where(here[..., None], inputs[..., None, :], memory.inputs)
        valid = places <= memory.elapsed[..., None]
        flat, batch = known.reshape(-1, *known.shape[-2:]), memory.elapsed.shape
        read = self._read(flat, valid.reshape(-1, len(places)), None)
        last = jnp.minimum(memory.elapsed.reshape(-1), len(places) - 1)
        features = jnp.take_along_axis(read, last[:, None, None], axis=1)[:, 0]
        return Steps(known, memory.elapsed + 1), features.reshape(*batch, self.size)

    def over(self, memory: Steps, inputs: Array, fresh: Array) -> Array:
        """As `EpisodeReader.over`."""
        kept = jnp.arange(memory.inputs.shape[-2]) < memory.elapsed[:, None]
        rows = jnp.concatenate([memory.inputs, inputs], axis=1)
        valid = jnp.concatenate([kept, jnp.ones(fresh.shape, bool)], axis=1)
        segments = jnp.concatenate(
            [jnp.zeros(kept.shape, jnp.int32), jnp.cumsum(fresh, axis=1, dtype=jnp.int32)], axis=1
        )
        return self._read(rows, valid, segments)[:, kept.shape[1] :]

    def _read(self, inputs: Array, valid: Array, segments: Array | None) -> Array:
        """[batch, length, input] to features [batch, length, size]."""
        rows = self.embed(inputs).reshape(-1, self.size)
        features: Array = self.blocks(rows, valid, segments)
        return features.reshape(*valid.shape, self.size)

    @property
    def _config(self) -> TransformerConfig:
        return TransformerConfig(
            vocabulary_size=1,
            hidden_size=self.size,
            num_layers=self.layers,
            num_heads=self.heads,
            num_key_value_heads=self.heads,
            head_size=self.size // self.heads,
            intermediate_size=2 * self.size,
        )


class _Blocks(nn.Module):
    """The blocks of a transformer over rows that are embedded already."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, rows: Array, valid: Array, segments: Array | None) -> Array:
        return read_causally(self.config, rows, valid, segments=segments)[0]
