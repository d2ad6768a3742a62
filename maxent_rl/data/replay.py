"""A replay buffer of packed rows: one flat array, written in place and sampled by one gather.

A transition is one row of float32, so that a batch costs one gather and a step one contiguous write. Environments that
run side by side write their rows next to each other: row `r` belongs to environment `r % num_envs`, and the same
environment's next row stands `num_envs` further, which is all that n-step returns need.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import NDArray

from maxent_rl.types import Array, Spec, Transition


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
class ReplayLayout:
    """How transitions lie in a buffer, and how batches are drawn from it.

    Attributes:
      observation_size: entries of an observation.
      action_size: entries of an action.
      capacity: rows of the buffer; a multiple of `num_envs`.
      num_envs: environments that write side by side.
      batch_size: transitions in a batch.
      n_step: environment steps that a transition of a batch spans, at most.
    """

    observation_size: int
    action_size: int
    capacity: int
    num_envs: int = 1
    batch_size: int = 256
    n_step: int = 1

    @classmethod
    def create(cls, spec: Spec, replay_size: int, num_envs: int, batch_size: int, n_step: int) -> ReplayLayout:
        """Lays out a buffer for an environment; `replay_size` is rounded down to whole vector steps, at least one."""
        capacity = max(replay_size // num_envs, 1) * num_envs
        return cls(spec.observation_size, spec.action_size, capacity, num_envs, batch_size, n_step)

    @property
    def width(self) -> int:
        """Entries of a row: observation, action, next observation, reward, terminated, truncated."""
        return 2 * self.observation_size + self.action_size + 3

    def empty(self) -> Replay:
        """A buffer with nothing in it; its memory is taken at once."""
        return Replay(jnp.zeros((self.capacity, self.width)), jnp.zeros((), jnp.int32))

    def pack(self, transition: Transition) -> Array:
        """Packs transitions of single steps [...] into rows [..., width]."""
        flags = (transition.reward, transition.terminated, transition.truncated)
        action = transition.action.reshape((*transition.reward.shape, self.action_size))
        parts = (transition.observation, action, transition.next_observation, *(flag[..., None] for flag in flags))
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
        first, second = self.observation_size, self.observation_size + self.action_size
        rows[:, :first] = observation
        rows[:, first:second] = action.reshape(len(reward), -1)
        rows[:, second:-3] = next_observation
        rows[:, -3], rows[:, -2], rows[:, -1] = reward, terminated, truncated
        return rows

    def unpack(self, rows: Array) -> Transition:
        """Unpacks rows [..., width] into transitions of single steps [...]."""
        first, second = self.observation_size, self.observation_size + self.action_size
        return Transition(
            observation=rows[..., :first],
            action=rows[..., first:second],
            next_observation=rows[..., second:-3],
            reward=rows[..., -3],
            terminated=rows[..., -2],
            truncated=rows[..., -1],
            steps=jnp.ones(rows.shape[:-1]),
        )

    def add(self, replay: Replay, rows: Array) -> Replay:
        """Writes the rows [num_envs, width] of one vector step; in place where the buffer is donated."""
        position = replay.inserted % self.capacity
        written = jax.lax.dynamic_update_slice_in_dim(replay.rows, rows, position, axis=0)
        return Replay(rows=written, inserted=replay.inserted + self.num_envs)

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
        start = _below(jax.random.bits(key, (self.batch_size,)), filled)
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


def _below(bits: Array, bound: Array) -> Array:
    """Integers from 0 up to `bound`, the floor of `bits * bound / 2^32`: one draw where `randint` takes two and three keys.

    Args:
      bits: [...] uint32, uniform.
      bound: [] int32, positive; no integer is likelier than another by more than `bound / 2^32`, as a share.

    Returns:
      [...] int32.
    """
    bound = bound.astype(jnp.uint32)
    high, low = bits >> 16, bits & 0xFFFF
    bound_high, bound_low = bound >> 16, bound & 0xFFFF
    middle = (low * bound_low >> 16) + (high * bound_low & 0xFFFF) + (low * bound_high & 0xFFFF)
    carried = (high * bound_low >> 16) + (low * bound_high >> 16) + (middle >> 16)
    return (high * bound_high + carried).astype(jnp.int32)
