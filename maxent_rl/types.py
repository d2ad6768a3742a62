"""The values that the layers hand to each other: what an environment looks like, and what happened in it.

Nothing here computes. `losses` and `distributions` do not import even this.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import jax
from flax import struct

Array: TypeAlias = jax.Array
PyTree: TypeAlias = Any
Metrics: TypeAlias = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Spec:
    """What an agent must know of an environment to be built.

    Attributes:
      observation_shape: shape of one observation; always one axis (environments flatten).
      action_shape: shape of one action; `(action_size,)` for continuous actions in [-1, 1], `()` for discrete ones;
        `(length,)` with `num_actions` for sequences of discrete ones, such as tokens.
      horizon: the most environment steps that an episode can have before it is truncated.
      num_actions: number of discrete actions, or None when actions are continuous.
      action_low: the environment's own lower bounds, to which -1 is rescaled; None where actions are not rescaled.
      action_high: the environment's own upper bounds, to which 1 is rescaled.
      num_envs: environments of each seed that step side by side.
    """

    observation_shape: tuple[int, ...]
    action_shape: tuple[int, ...]
    horizon: int
    num_actions: int | None = None
    action_low: tuple[float, ...] | None = None
    action_high: tuple[float, ...] | None = None
    num_envs: int = 1

    @property
    def observation_size(self) -> int:
        """Number of entries of one observation."""
        return self.observation_shape[0]

    @property
    def action_size(self) -> int:
        """Number of entries of one stored action (1 for a discrete one)."""
        return self.action_shape[0] if self.action_shape else 1


@struct.dataclass
class Transition:
    """A batch of transitions, with any leading axes `[...]`.

    `next_observation` is the true one, also at an episode's end: never the observation after a reset.

    Attributes:
      observation: [..., observation] before the action.
      action: [..., action]; [-1, 1] is the environment's range, and the action stands here as it was drawn, unclipped.
      reward: [...] the reward; over `steps` steps, their sum discounted to the first.
      next_observation: [..., observation] after the last of the steps.
      terminated: [...] 1 where the episode ended in a terminal state (its value is 0 from then on), else 0.
      truncated: [...] 1 where a time limit cut the episode (its value goes on), else 0.
      steps: [...] environment steps from `observation` to `next_observation`: 1, or up to n for n-step returns.
    """

    observation: Array
    action: Array
    reward: Array
    next_observation: Array
    terminated: Array
    truncated: Array
    steps: Array
