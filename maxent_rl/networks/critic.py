"""Critics: from an observation and an action, or to one value for each choice; several of them side by side."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maxent_rl.networks.trunk import TrunkName, make_trunk, torch_uniform


class Critic(nn.Module):
    """One action-value function; the fields are those of `make_trunk`."""

    network: TrunkName
    hidden_sizes: Sequence[int]
    layer_norm: bool = False
    dropout: float = 0.0
    num_actions: int | None = None

    @nn.compact
    def __call__(self, observation: Array, action: Array | None = None) -> Array:
        """Maps [..., observation] and [..., action] to a value [...]; with `num_actions`, an observation to [..., choice].

        Leading axes of observations may be 1 where those of the actions are not.
        """
        trunk = make_trunk(self.network, self.hidden_sizes, self.layer_norm, self.dropout)
        if action is not None:
            features = trunk(joined(observation, action))
            return nn.Dense(1, kernel_init=torch_uniform())(features)[..., 0]
        assert self.num_actions is not None
        values: Array = nn.Dense(self.num_actions, kernel_init=torch_uniform())(trunk(observation))
        return values


def joined(observation: Array, action: Array) -> Array:
    """[..., observation + action], with the leading axes of the actions, to which those of observations are stretched."""
    stretched = jnp.broadcast_to(observation, (*action.shape[:-1], observation.shape[-1]))
    return jnp.concatenate([stretched, action], axis=-1)


class CriticEnsemble(nn.Module):
    """Independent critics that share nothing.

    They are unrolled, each with parameters of its own, not stacked under vmap: on a 2-core CPU an update of SAC (batch
    256, two layers of 256) was no slower that way with one seed, and 12 to 19 % faster with four seeds under vmap.
    """

    network: TrunkName
    hidden_sizes: Sequence[int]
    num_critics: int
    layer_norm: bool = False
    dropout: float = 0.0
    num_actions: int | None = None

    @nn.compact
    def __call__(self, observation: Array, action: Array | None = None) -> Array:
        """As `Critic`, with a leading axis [num_critics]; dropout needs a "dropout" key."""
        settings = (self.network, self.hidden_sizes, self.layer_norm, self.dropout, self.num_actions)
        critics = [Critic(*settings, name=f"critic_{index}") for index in range(self.num_critics)]
        return jnp.stack([critic(observation, action) for critic in critics])
