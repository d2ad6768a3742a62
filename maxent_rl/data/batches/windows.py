"""Windows of a data set on the device: what happened around a step, never across an episode's end."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from maxent_rl.data.batches.logged import returns_to_go
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.types import Array, Windows


@struct.dataclass
class EpisodeWindows:
    """What windows are drawn from: N transitions, episodes one after the other.

    Attributes:
      observation: [N, observation].
      action: [N, action], or [N] for discrete ones, as floats.
      reward: [N].
      next_observation: [N, observation].
      return_to_go: [N].
      timestep: [N] int32 transitions of its episode before each.
      remaining: [N] int32 transitions of its episode from each on, itself included.
      context: the most steps of a window up to its present, which counts among them.
      ahead: the most steps of a window from its present on, which counts among them too.
    """

    observation: Array
    action: Array
    reward: Array
    next_observation: Array
    return_to_go: Array
    timestep: Array
    remaining: Array
    context: int = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    ahead: int = struct.field(pytree_node=False, default=1)  # type: ignore[no-untyped-call]

    @classmethod
    def create(cls, data: Dataset, context: int, ahead: int = 1, discount: float = 1.0) -> EpisodeWindows:
        """Takes a data set whose actions are those of agents, continuous ones in [-1, 1].

        An episode that the data breaks off is left out, unless there is no other: what it would have got is not known, and
        where rewards are negative the few that it has would look like the best return of all.

        Args:
          data: the data set.
          context: the most steps up to the present.
          ahead: the most steps from the present on.
          discount: factor of later rewards in `return_to_go`.
        """
        start, length, complete = data.episodes
        if complete.any() and not complete[-1]:
            data = data.part(0, int(start[-1]))
            start, length = start[:-1], length[:-1]
        timestep = np.arange(data.size) - np.repeat(start, length)
        return cls(
            observation=jnp.asarray(data.observation, jnp.float32),
            action=jnp.asarray(data.action, jnp.float32),
            reward=jnp.asarray(data.reward, jnp.float32),
            next_observation=jnp.asarray(data.next_observation, jnp.float32),
            return_to_go=jnp.asarray(returns_to_go(data.reward, data.terminated | data.truncated, discount)),
            timestep=jnp.asarray(timestep, jnp.int32),
            remaining=jnp.asarray(np.repeat(length, length) - timestep, jnp.int32),
            context=context,
            ahead=ahead,
        )

    @property
    def size(self) -> int:
        """Windows, one for each step as its present."""
        return int(self.reward.shape[0])

    @property
    def length(self) -> int:
        """Places of a window, T."""
        return self.context + self.ahead - 1

    @property
    def returns(self) -> Array:
        """[N] the return to go at the first step of each episode, and NaN at the others."""
        return jnp.where(self.timestep == 0, self.return_to_go, jnp.nan)

    def sample(self, key: Array, batch_size: int) -> Windows:
        """Draws windows [batch] whose presents are uniform over all steps, with replacement."""
        return self.around(jax.random.randint(key, (batch_size,), 0, self.size))

    def around(self, present: Array) -> Windows:
        """The windows whose presents are the steps of these indices [batch].

        Where an episode ends before its future is full, the window reaches further back instead.
        """
        last = present + jnp.minimum(self.remaining[present], self.ahead) - 1
        back = jnp.arange(self.length)[::-1]
        index = last[:, None] - back
        valid = self.timestep[last][:, None] >= back
        index = jnp.where(valid, index, 0)

        def gather(leaf: Array) -> Array:
            taken = leaf[index]
            return jnp.where(valid.reshape(valid.shape + (1,) * (taken.ndim - 2)), taken, jnp.zeros((), leaf.dtype))

        return Windows(
            observation=gather(self.observation),
            action=gather(self.action),
            reward=gather(self.reward),
            next_observation=gather(self.next_observation),
            return_to_go=gather(self.return_to_go),
            timestep=gather(self.timestep),
            mask=valid.astype(jnp.float32),
            future=(valid & (index >= present[:, None])).astype(jnp.float32),
        )
