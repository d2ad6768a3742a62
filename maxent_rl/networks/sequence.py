"""Features of each step of an episode from all steps before it: what agents that remember are made of.

Steps are read as triples of tokens, as Decision Transformer does (arXiv 2106.01345, section 3): what is known before the
state (a return to go, or the reward before), the state, the action. A learned embedding of the step's number in the episode
is added to all three. The blocks are those of the language model, so positions within the window are rotary besides.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maxent_rl.errors import InvalidSettingError
from maxent_rl.networks.transformer import TransformerConfig, read_causally
from maxent_rl.networks.trunk import MLP

_EMBEDDING_STD = 0.02
_PARTS = ("before", "state", "action")


@dataclasses.dataclass(frozen=True)
class SequenceConfig:
    """The shape of a reader of steps.

    Attributes:
      width: entries of a feature.
      layers: blocks of attention; 0 for a plain network of two layers that sees nothing but the step itself.
      heads: of the attention; they share the width.
      dropout: share of each block's output that is dropped in training.
      longest: steps of an episode that have embeddings of their own, the later ones share the last; 0 for none at all.

    Raises:
      InvalidSettingError: heads that cannot share the width.
    """

    width: int
    layers: int
    heads: int
    dropout: float = 0.0
    longest: int = 1_000

    def __post_init__(self) -> None:
        """Checks that the sizes fit together."""
        if self.layers and self.width % (2 * self.heads):
            raise InvalidSettingError(
                f"--width must be a multiple of twice --heads, got {self.width} and {self.heads}."
            )

    @property
    def transformer(self) -> TransformerConfig:
        """The blocks' shape."""
        return TransformerConfig(
            vocabulary_size=1,
            hidden_size=self.width,
            num_layers=self.layers,
            num_heads=self.heads,
            num_key_value_heads=self.heads,
            head_size=self.width // self.heads,
            intermediate_size=2 * self.width,
        )


class SequenceReader(nn.Module):
    """Reads steps and gives a feature for each, of all up to its state or up to its action.

    ```python
    reader = SequenceReader(SequenceConfig(width=64, layers=2, heads=1))
    params = reader.init(key, before, observation, action, timestep, mask)
    features = reader.apply(params, before, observation, action, timestep, mask)
    ```
    """

    config: SequenceConfig
    upto: Literal["state", "action"] = "state"

    @nn.compact
    def __call__(self, before: Array, observation: Array, action: Array, timestep: Array, mask: Array) -> Array:
        """Reads B windows of T steps; padded entries may hold any finite numbers.

        Args:
          before: [B, T, ...] what is known before the state.
          observation: [B, T, observation].
          action: [B, T, action], discrete ones as one-hot vectors; it shows in the features of later steps, and in those
            of its own with `upto="action"`.
          timestep: [B, T] int32.
          mask: [B, T] 0 for padding.

        Returns:
          [B, T, width]; at padded places finite and meaningless.
        """
        parts = [before, observation, action]
        if not self.config.layers:
            return self._of_the_step_alone(parts if self.upto == "action" else parts[:2], timestep)
        embedded = [nn.Dense(self.config.width, name=name)(part) for name, part in zip(_PARTS, parts, strict=True)]
        tokens = jnp.stack(embedded, axis=2)
        if self.config.longest:
            tokens = tokens + self._timestep(timestep)[:, :, None]
        batch, length = mask.shape
        valid = jnp.repeat(mask > 0, len(parts), axis=1)
        rows = tokens.reshape(-1, self.config.width)
        read, _ = read_causally(self.config.transformer, rows, valid, dropout=self.config.dropout)
        return read.reshape(batch, length, len(parts), -1)[:, :, 1 if self.upto == "state" else 2]

    def _of_the_step_alone(self, parts: list[Array], timestep: Array) -> Array:
        parts = [*parts, self._timestep(timestep)] if self.config.longest else parts
        features: Array = MLP((self.config.width, self.config.width))(jnp.concatenate(parts, axis=-1))
        return features

    def _timestep(self, timestep: Array) -> Array:
        embed = nn.Embed(
            self.config.longest,
            self.config.width,
            embedding_init=nn.initializers.normal(_EMBEDDING_STD),
            name="timestep",
        )
        found: Array = embed(jnp.clip(timestep, 0, self.config.longest - 1))
        return found
