"""Packed rows: how transitions lie in a flat array that is written in place, whatever is then drawn from it.

A transition is one row of float32, so that a batch costs one gather and a step one contiguous write. Environments that
run side by side write their rows next to each other: row `r` belongs to environment `r % num_envs`, and the same
environment's next row stands `num_envs` further. The pixels of images that end observations lie three in a number.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import NDArray

from maxent_rl.data.buffers.pixels import AnyArray, pack_pixels, packed_size, unpack_pixels
from maxent_rl.types import Array, Transition


@struct.dataclass
class Replay:
    """The buffer of one seed.

    Attributes:
      rows: [capacity, width] packed transitions; once full, the newest overwrite the oldest.
      inserted: [] int32 rows written since the start. The same for all seeds, hence not batched under vmap.
    """

    rows: Array
    inserted: Array


@dataclasses.dataclass(frozen=True)
class RowLayout(abc.ABC):
    """How transitions lie in a buffer; what is drawn from it is the business of each kind of layout.

    Loops rely on this class alone: which kind it is follows from what the agent declares.

    Attributes:
      size_setting: the hyper-parameter that decides the buffer's size, as the command line spells it.
      batch_axis: the axis of a batch along which devices may divide it, as its entries do not depend on each other.
      batch_words: what `batch_parts` counts, for messages in which the number follows.
      acts_after_learning: whether the next actions must be those of the policy that a due update leaves. Where they may
        be those of the policy before it, environments step while the device learns.
      observation_size: entries of an observation.
      action_shape: of one action; `()` for a discrete one, which is stored as a float.
      capacity: rows of the buffer; a multiple of `num_envs`.
      num_envs: environments that write side by side.
      image_size: entries of an observation, the last ones, that are pixels: whole numbers from 0 to 255.
    """

    size_setting: ClassVar[str]
    batch_axis: ClassVar[int]
    batch_words: ClassVar[str]
    acts_after_learning: ClassVar[bool]

    observation_size: int
    action_shape: tuple[int, ...]
    capacity: int
    num_envs: int = 1
    image_size: int = 0

    @abc.abstractmethod
    def sample(self, replay: Replay, key: Array, discount: Array | float) -> Transition:
        """The batch that one update learns from.

        Args:
          replay: with enough rows in it for an update to be due.
          key: [] random key.
          discount: [] factor for later rewards, where a transition spans several steps.
        """

    @property
    @abc.abstractmethod
    def batch_shape(self) -> tuple[int, ...]:
        """The leading axes of what `sample` gives."""

    @property
    def batch_parts(self) -> int:
        """Entries of a batch along `batch_axis`."""
        return self.batch_shape[self.batch_axis]

    @property
    def action_size(self) -> int:
        """Entries of a stored action."""
        return math.prod(self.action_shape)

    @property
    def stored_size(self) -> int:
        """Entries of a stored observation."""
        return self.observation_size - self.image_size + packed_size(self.image_size)

    @property
    def width(self) -> int:
        """Entries of a row: observation, action, next observation, reward, terminated, truncated."""
        return 2 * self.stored_size + self.action_size + 3

    def empty(self) -> Replay:
        """A buffer with nothing in it; its memory is taken at once."""
        return Replay(jnp.zeros((self.capacity, self.width)), jnp.zeros((), jnp.int32))

    def pack(self, transition: Transition) -> Array:
        """Packs transitions of single steps [...] into rows [..., width]."""
        flags = (transition.reward, transition.terminated, transition.truncated)
        action = transition.action.reshape((*transition.reward.shape, self.action_size))
        seen = self._stored(transition.observation), self._stored(transition.next_observation)
        parts = (seen[0], action, seen[1], *(flag[..., None] for flag in flags))
        return jnp.concatenate([part.astype(jnp.float32) for part in parts], axis=-1)

    def pack_host(
        self,
        observation: NDArray[np.float32],
        action: NDArray[np.float32],
        reward: NDArray[np.float32],
        next_observation: NDArray[np.float32],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """As `pack`, for the NumPy arrays of host environments: [n, ...] into rows [n, width]."""
        rows = np.empty((len(reward), self.width), np.float32)
        first, second = self.stored_size, self.stored_size + self.action_size
        rows[:, :first] = self._stored(observation)
        rows[:, first:second] = action.reshape(len(reward), -1)
        rows[:, second:-3] = self._stored(next_observation)
        rows[:, -3], rows[:, -2], rows[:, -1] = reward, terminated, truncated
        return rows

    def unpack(self, rows: Array) -> Transition:
        """Unpacks rows [..., width] into transitions of single steps [...]; discrete actions are floats [...]."""
        first, second = self.stored_size, self.stored_size + self.action_size
        return Transition(
            observation=self._observed(rows[..., :first]),
            action=rows[..., first:second].reshape((*rows.shape[:-1], *self.action_shape)),
            next_observation=self._observed(rows[..., second:-3]),
            reward=rows[..., -3],
            terminated=rows[..., -2],
            truncated=rows[..., -1],
            steps=jnp.ones(rows.shape[:-1]),
        )

    def _stored(self, observation: AnyArray) -> AnyArray:
        """[..., observation] as it lies in a row."""
        if not self.image_size:
            return observation
        first, concat = self.observation_size - self.image_size, observation.__array_namespace__().concat
        stored: AnyArray = concat([observation[..., :first], pack_pixels(observation[..., first:])], axis=-1)
        return stored

    def _observed(self, stored: AnyArray) -> AnyArray:
        """The way back."""
        if not self.image_size:
            return stored
        first, concat = self.observation_size - self.image_size, stored.__array_namespace__().concat
        observed: AnyArray = concat([stored[..., :first], unpack_pixels(stored[..., first:], self.image_size)], axis=-1)
        return observed

    def add(self, replay: Replay, rows: Array) -> Replay:
        """Writes the rows [num_envs, width] of one vector step; in place where the buffer is donated."""
        position = replay.inserted % self.capacity
        written = jax.lax.dynamic_update_slice_in_dim(replay.rows, rows, position, axis=0)
        return Replay(rows=written, inserted=replay.inserted + self.num_envs)

    def cut(self, rows: Array, inserted: Array) -> Array:
        """Marks the newest vector step as cut by a time limit, where no terminal state ended it: others begin after it.

        Args:
          rows: [..., capacity, width].
          inserted: [] rows written so far.
        """
        position = (inserted - self.num_envs) % self.capacity
        newest = jax.lax.dynamic_slice_in_dim(rows, position, self.num_envs, axis=-2)
        newest = newest.at[..., -1].set(1.0 - newest[..., -2])
        marked = jax.lax.dynamic_update_slice_in_dim(rows, newest, position, axis=-2)
        return jnp.where(inserted > 0, marked, rows)
