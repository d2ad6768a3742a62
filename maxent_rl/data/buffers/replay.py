"""A replay buffer: packed rows, of which batches are drawn with replacement by one gather.

The next row of the same environment stands `num_envs` further, which is all that n-step returns need.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from maxent_rl.data.buffers.rows import Replay, RowLayout
from maxent_rl.types import Array, Spec, Transition


@dataclasses.dataclass(frozen=True)
class ReplayLayout(RowLayout):
    """A buffer for off-policy agents: batches of transitions [batch], whenever they were collected.

    Attributes:
      batch_size: transitions in a batch.
      n_step: environment steps that a transition of a batch spans, at most.
    """

    size_setting: ClassVar[str] = "--replay-size"
    batch_axis: ClassVar[int] = 0
    batch_words: ClassVar[str] = "a batch of"
    acts_after_learning: ClassVar[bool] = False

    batch_size: int = 256
    n_step: int = 1

    @classmethod
    def create(cls, spec: Spec, replay_size: int, num_envs: int, batch_size: int, n_step: int) -> ReplayLayout:
        """Lays out a buffer for an environment; `replay_size` is rounded down to whole vector steps, at least one."""
        capacity = max(replay_size // num_envs, 1) * num_envs
        return cls(spec.observation_size, spec.action_shape, capacity, num_envs, spec.image_size, batch_size, n_step)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """[batch]."""
        return (self.batch_size,)

    def sample(self, replay: Replay, key: Array, discount: Array | float) -> Transition:
        """Draws a batch uniformly, with replacement.

        Args:
          replay: with at least one row in it.
          key: [] random key.
          discount: [] factor for the rewards of later steps, where `n_step` is more than one.

        Returns:
          Transitions [batch]. With `n_step` > 1 each spans up to that many steps of one environment: fewer where an
          episode ends, or where the newest row is reached; `steps` says how many.
        """
        filled = jnp.minimum(replay.inserted, self.capacity)
        start = uniform_below(jax.random.bits(key, (self.batch_size,)), filled)
        if self.n_step == 1:
            return self.unpack(replay.rows[start])
        offsets = jnp.arange(self.n_step) * self.num_envs
        newer = (replay.inserted - 1 - start) % self.capacity
        window = self.unpack(replay.rows[(start[:, None] + offsets) % self.capacity])
        ended = jnp.cumsum(window.terminated + window.truncated, axis=1)
        running = jnp.concatenate([jnp.ones_like(ended[:, :1], bool), ended[:, :-1] == 0], axis=1)
        valid = running & (offsets <= newer[:, None])
        steps = jnp.sum(valid, axis=1)
        factors = jnp.where(valid, discount ** jnp.arange(self.n_step), 0.0)
        last = jax.tree.map(lambda entry: entry[jnp.arange(self.batch_size), steps - 1], window)
        return Transition(
            observation=window.observation[:, 0],
            action=window.action[:, 0],
            reward=jnp.sum(factors * window.reward, axis=1),
            next_observation=last.next_observation,
            terminated=last.terminated,
            truncated=last.truncated,
            steps=steps.astype(jnp.float32),
        )


def uniform_below(bits: Array, bound: Array) -> Array:
    """Integers from 0 up to `bound`, the floor of `bits * bound / 2^32`: one draw where `randint` takes two and three keys.

    Args:
      bits: [...] uint32, uniform.
      bound: [] or [...] int32, positive; no integer is likelier than another by more than `bound / 2^32`, as a share.

    Returns:
      [...] int32.
    """
    bound = bound.astype(jnp.uint32)
    high, low = bits >> 16, bits & 0xFFFF
    bound_high, bound_low = bound >> 16, bound & 0xFFFF
    middle = (low * bound_low >> 16) + (high * bound_low & 0xFFFF) + (low * bound_high & 0xFFFF)
    carried = (high * bound_low >> 16) + (low * bound_high >> 16) + (middle >> 16)
    return (high * bound_high + carried).astype(jnp.int32)
