"""Critics: from an observation and an action, or to one value for each choice; several of them side by side."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maxent_rl.networks.trunk import TrunkPlan, make_head, make_trunk


class Critic(nn.Module):
    """One action-value function.

    Attributes:
      trunk: before the last layer.
      num_outputs: numbers that stand for a value, such as bins or quantiles; None for the value itself.
      num_actions: choices that it values all at once; None where the action is an input.
    """

    trunk: TrunkPlan
    num_outputs: int | None = None
    num_actions: int | None = None

    @nn.compact
    def __call__(self, observation: Array, action: Array | None = None, train: bool = False) -> Array:
        """Maps [..., observation] and [..., action] to a value [...]; with `num_actions`, an observation to [..., choice].

        With `num_outputs` values have an axis of as many entries at the end. Leading axes of observations may be 1 where those
        of the actions are not. In training, batch normalisation goes by the statistics of the inputs.
        """
        trunk = make_trunk(self.trunk)
        if action is not None:
            features = trunk(joined(observation, action), train)
            values: Array = make_head(self.trunk, self.num_outputs or 1, None)(features)
            return values if self.num_outputs else values[..., 0]
        assert self.num_actions is not None
        values = make_head(self.trunk, self.num_actions * (self.num_outputs or 1), None)(trunk(observation, train))
        return values.reshape(*values.shape[:-1], self.num_actions, self.num_outputs) if self.num_outputs else values


def joined(observation: Array, action: Array) -> Array:
    """[..., observation + action], with the leading axes of the actions, to which those of observations are stretched."""
    stretched = jnp.broadcast_to(observation, (*action.shape[:-1], observation.shape[-1]))
    return jnp.concatenate([stretched, action], axis=-1)


class CriticEnsemble(nn.Module):
    """Independent critics that share nothing.

    They are unrolled, each with parameters of its own, not stacked under vmap: on a 2-core CPU an update of SAC (batch
    256, two layers of 256) was no slower that way with one seed, and 12 to 19 % faster with four seeds under vmap.

    Attributes:
      trunk: as of `Critic`, and so the others.
      num_critics: how many.
    """

    trunk: TrunkPlan
    num_critics: int
    num_outputs: int | None = None
    num_actions: int | None = None

    @nn.compact
    def __call__(self, observation: Array, action: Array | None = None, train: bool = False) -> Array:
        """As `Critic`, with a leading axis [num_critics]; dropout needs a "dropout" key."""
        settings = (self.trunk, self.num_outputs, self.num_actions)
        critics = [Critic(*settings, name=f"critic_{index}") for index in range(self.num_critics)]
        return jnp.stack([critic(observation, action, train) for critic in critics])
