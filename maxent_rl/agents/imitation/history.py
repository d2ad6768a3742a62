"""What an agent that reads windows remembers of an episode: its last steps."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.types import Array, Windows


@struct.dataclass
class History:
    """The last steps of episodes, padded on the left; `length` of them, with leading axes `[...]`.

    Attributes:
      observation: [..., length, observation] before each action.
      action: [..., length, action], or [..., length] for discrete ones, as floats.
      reward: [..., length].
      return_to_go: [..., length] what was asked for at each step.
      mask: [..., length] 1 where there is a step.
      step: [...] int32 steps of the episode so far, also those that are forgotten.
    """

    observation: Array
    action: Array
    reward: Array
    return_to_go: Array
    mask: Array
    step: Array

    @classmethod
    def start(
        cls, batch_shape: tuple[int, ...], length: int, observation_size: int, action_shape: tuple[int, ...]
    ) -> History:
        """Nothing has happened yet."""
        shape = (*batch_shape, length)
        return cls(
            observation=jnp.zeros((*shape, observation_size)),
            action=jnp.zeros((*shape, *action_shape)),
            reward=jnp.zeros(shape),
            return_to_go=jnp.zeros(shape),
            mask=jnp.zeros(shape),
            step=jnp.zeros(batch_shape, jnp.int32),
        )

    def window(self, observation: Array, return_to_go: Array) -> Windows:
        """The steps that are remembered and then the present one, whose action is still to be chosen.

        Args:
          observation: [..., observation] of now.
          return_to_go: [...] asked for from now on.
        """
        open_action = jnp.zeros((*self.step.shape, *self.action.shape[self.step.ndim + 1 :]))
        full = self._append(observation, open_action, jnp.zeros(self.step.shape), return_to_go)
        seen: Array = full.observation
        back = jnp.arange(full.mask.shape[-1])[::-1]
        return Windows(
            observation=seen,
            action=full.action,
            reward=full.reward,
            next_observation=jnp.zeros_like(seen),
            return_to_go=full.return_to_go,
            timestep=jnp.maximum(self.step[..., None] - back, 0),
            mask=full.mask,
            future=jnp.zeros_like(full.mask).at[..., -1].set(1.0),
        )

    def push(self, observation: Array, action: Array, reward: Array, return_to_go: Array) -> History:
        """The history after a step: the oldest one gives way."""
        axis, full = self.step.ndim, self._append(observation, action, reward, return_to_go)
        rest = {
            field.name: jax.lax.slice_in_dim(getattr(full, field.name), 1, None, axis=axis)
            for field in dataclasses.fields(full)
            if field.name != "step"
        }
        return History(**rest, step=self.step + 1)

    def _append(self, observation: Array, action: Array, reward: Array, return_to_go: Array) -> History:
        """One step more than is kept."""
        axis = self.step.ndim

        def join(kept: Array, new: Array) -> Array:
            return jnp.concatenate([kept, jnp.expand_dims(new, axis).astype(kept.dtype)], axis=axis)

        return History(
            observation=join(self.observation, observation),
            action=join(self.action, action),
            reward=join(self.reward, reward),
            return_to_go=join(self.return_to_go, return_to_go),
            mask=join(self.mask, jnp.ones(self.step.shape)),
            step=self.step,
        )
