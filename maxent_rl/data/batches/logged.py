"""Transitions of a data set on the device: packed rows, of which a batch is one gather."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import NDArray

from maxent_rl.data.buffers.replay import uniform_below
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.types import Array, LoggedTransition

_SCALARS = 5  # reward, terminated, truncated, followed, return to go


@struct.dataclass
class LoggedTransitions:
    """What batches are drawn from.

    Attributes:
      rows: [N, width] observation, action, next observation, next action, and the scalars of a `LoggedTransition`.
      observation_size: entries of an observation.
      action_shape: of one action; `()` for a discrete one, which is stored as a float.
    """

    rows: Array
    observation_size: int = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    action_shape: tuple[int, ...] = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]

    @classmethod
    def create(cls, data: Dataset, discount: float) -> LoggedTransitions:
        """Packs a data set whose actions are those of agents, continuous ones in [-1, 1].

        Args:
          data: the data set.
          discount: factor of later rewards in `return_to_go`.
        """
        action = data.action.reshape(data.size, -1).astype(np.float32)
        ended = data.terminated | data.truncated
        followed = ~ended
        followed[-1:] = False
        next_action = np.where(followed[:, None], np.roll(action, -1, axis=0), 0.0)
        return_to_go = returns_to_go(data.reward, ended, discount)
        start, _, complete = data.episodes
        return_to_go[start[~complete][0] if not complete.all() else data.size :] = np.nan
        scalars = (data.reward, data.terminated, data.truncated, followed, return_to_go)
        parts = (data.observation, action, data.next_observation, next_action, *(each[:, None] for each in scalars))
        rows = np.concatenate([part.astype(np.float32) for part in parts], axis=1)
        return cls(jnp.asarray(rows), data.observation.shape[1], data.action.shape[1:])

    @property
    def size(self) -> int:
        """Transitions."""
        return int(self.rows.shape[0])

    @property
    def observations(self) -> Array:
        """[N, observation] before each action."""
        return self.rows[:, : self.observation_size]

    def sample(self, key: Array, batch_size: int) -> LoggedTransition:
        """Draws transitions [batch] uniformly, with replacement."""
        return self.unpack(self.rows[uniform_below(jax.random.bits(key, (batch_size,)), jnp.int32(self.size))])

    def unpack(self, rows: Array) -> LoggedTransition:
        """Unpacks rows [..., width]; discrete actions are floats [...]."""
        observation, action = self.observation_size, math.prod(self.action_shape)
        bounds = np.cumsum([observation, action, observation, action])
        first, second, third, fourth = jnp.split(rows[..., :-_SCALARS], bounds[:-1], axis=-1)
        shape = (*rows.shape[:-1], *self.action_shape)
        reward, terminated, truncated, followed, return_to_go = (
            rows[..., index - _SCALARS] for index in range(_SCALARS)
        )
        return LoggedTransition(
            observation=first,
            action=second.reshape(shape),
            next_observation=third,
            next_action=fourth.reshape(shape),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            followed=followed,
            return_to_go=return_to_go,
            steps=jnp.ones(rows.shape[:-1]),
        )


def returns_to_go(reward: NDArray[Any], ended: NDArray[np.bool_], discount: float) -> NDArray[np.float32]:
    """[N] the discounted sum of rewards from each step to the last one of its episode, or of the data."""
    found = np.empty(len(reward), np.float64)
    following = 0.0
    for index in range(len(reward) - 1, -1, -1):
        following = float(reward[index]) + discount * (0.0 if ended[index] else following)
        found[index] = following
    return found.astype(np.float32)
