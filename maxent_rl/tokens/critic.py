"""A critic over tokens: the expected reward of a response, seen from before each of its tokens.

It is a linear head, zero at first, on last hidden states: on those of a transformer of its own, which begins as a copy of the
policy, or on the policy's. Of what it says objectives make advantages and a loss (`objectives.critics`); here it is
built, asked, and moved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl.networks.transformer import TransformerConfig
from maxent_rl.tokens.batch import Prompted
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.objectives import PRESETS, Stage
from maxent_rl.types import Array, PyTree

Trunk: TypeAlias = Literal["own", "shared"]


@struct.dataclass
class TokenCritic:
    """A head with what it stands on.

    Attributes:
      config: of the transformer.
      params: "head": its "kernel" [D] and "bias" []; "trunk": a transformer's parameters, or None for the policy's.
    """

    config: TransformerConfig = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    params: PyTree

    @classmethod
    def create(cls, config: TransformerConfig, policy: PyTree, trunk: Trunk) -> TokenCritic:
        """A critic that says 0 of everything.

        Args:
          config: of the policy's transformer.
          policy: its parameters; a trunk of the critic's own begins as they are.
          trunk: "own" or "shared".
        """
        head = {"kernel": jnp.zeros(config.hidden_size), "bias": jnp.zeros(())}
        return cls(config, {"head": head, "trunk": policy if trunk == "own" else None})

    def values(self, prompted: Prompted, tokens: Array, policy_hidden: Array) -> Array:
        """What it says of what stands before each token [N, T], in units of reward; it means nothing beyond the response.

        Args:
          prompted: what the responses answer, and where they have tokens.
          tokens: [N, T] int32 the responses.
          policy_hidden: [N, T, D] the policy's last hidden states; read where the trunk is shared, and learned through.
        """
        head, trunk = self.params["head"], self.params["trunk"]
        hidden = policy_hidden if trunk is None else LanguageModel(self.config, trunk).hidden(prompted, tokens)
        hidden = jnp.where(prompted.response_mask[..., None], hidden, 0).astype(jnp.float32)
        # A sum, as a matrix product may be taken in less than single precision, in which values differ by too little.
        value: Array = jnp.sum(hidden * head["kernel"], axis=-1) + head["bias"]
        return value

    def beside(self, policy: LanguageModel) -> Callable[[Prompted, Array], Array]:
        """From what responses answer, and their tokens [N, T], to what it says of them beside this policy, [N, T]."""
        return lambda prompted, tokens: self.values(prompted, tokens, policy.hidden(prompted, tokens))


@struct.dataclass
class CriticState:
    """What learning changes of a critic.

    Attributes:
      params: of `TokenCritic`.
      optimizer: of Adam.
      waiting: [] int32 responses from which the critic is still to learn alone, before the policy does.
    """

    params: PyTree
    optimizer: PyTree
    waiting: Array

    @property
    def alone(self) -> Array:
        """[] bool: the critic learns, and the policy waits."""
        return self.waiting > 0

    def seen(self, count: int) -> CriticState:
        """After `count` further responses."""
        return dataclasses.replace(self, waiting=jnp.maximum(self.waiting - count, 0))

    def step(self, slope: PyTree, adam: optax.GradientTransformation, learning_rate: Any) -> CriticState:
        """After one step down a gradient."""
        updates, optimizer = adam.update(slope, self.optimizer, self.params)
        params = jax.tree.map(lambda p, u: p - learning_rate * u, self.params, updates)
        return dataclasses.replace(self, params=params, optimizer=optimizer)


def has_critic(stages: Iterable[Stage]) -> bool:
    """Whether an objective of these stages learns with a critic."""
    return any("values" in stage.inputs for stage in stages)


WITH_CRITIC = tuple(name for name, preset in PRESETS.items() if has_critic(preset.stages))
"""The objectives that learn with a critic, by name."""


def held(critic: CriticState | None, before: Any, after: Any) -> Any:
    """What stays as it was `before` while the critic learns alone, and is what it is `after` otherwise."""
    if critic is None:
        return after
    return jax.tree.map(lambda old, new: jnp.where(critic.alone, old, new), before, after)
