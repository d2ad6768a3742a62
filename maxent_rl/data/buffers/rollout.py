"""A rollout: the window of the newest steps of all environments, in the order in which they were taken.

The buffer is just as large as the window, so that it is always whole, and in order, when an update is due.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax

from maxent_rl.data.buffers.rows import Replay, RowLayout
from maxent_rl.types import Array, Spec, Transition


@dataclasses.dataclass(frozen=True)
class RolloutLayout(RowLayout):
    """A buffer for on-policy agents: each update takes the whole window, and the next window overwrites it."""

    size_setting: ClassVar[str] = "--rollout-size"
    batch_axis: ClassVar[int] = 1
    batch_words: ClassVar[str] = "--num-envs"
    acts_after_learning: ClassVar[bool] = True

    @classmethod
    def create(cls, spec: Spec, rollout_time: int, num_envs: int) -> RolloutLayout:
        """Lays out a window of `rollout_time` steps of each of `num_envs` environments."""
        return cls(spec.observation_size, spec.action_shape, rollout_time * num_envs, num_envs, spec.image_size)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """[time, env]."""
        return (self.capacity // self.num_envs, self.num_envs)

    def sample(self, replay: Replay, key: Array, discount: Array | float) -> Transition:
        """The whole window.

        Args:
          replay: with a whole number of windows written into it since the start.
          key: not used: nothing is drawn.
          discount: not used: transitions are single steps.

        Returns:
          Transitions [time, env].
        """
        # Rows of one vector step stand next to each other, and the first of a window is row 0.
        transitions = self.unpack(replay.rows)
        shape = self.batch_shape
        window: Transition = jax.tree.map(lambda entry: entry.reshape(*shape, *entry.shape[1:]), transitions)
        return window
