"""The values that the layers hand to each other: what an environment looks like, and what happened in it.

Nothing here computes. `losses` and `distributions` do not import even this.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, TypeAlias

import jax
from flax import struct

from maxent_rl.spaces import Frame, Space

Array: TypeAlias = jax.Array
PyTree: TypeAlias = Any
Metrics: TypeAlias = dict[str, Array]
Learns: TypeAlias = Literal["replay", "rollout", "data", "task"]
"""What an agent learns from: transitions of a replay buffer, windows of its newest policy's steps, fixed data, or a task."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """What an agent must know of an environment to be built.

    Attributes:
      observation_shape: shape of one observation; always one axis (`spaces` says how others become one).
      action_shape: shape of one action; `(action_size,)` for continuous actions in [-1, 1], `()` for discrete ones;
        `(length,)` with `num_actions` for sequences of discrete ones, such as tokens.
      horizon: the most environment steps that an episode can have before it is truncated.
      num_actions: number of discrete actions, or None when actions are continuous.
      choices: number of choices of each entry of an action that makes several at once, `(entries,)`; None otherwise.
      observation_space: how the environment itself writes an observation; None where it gives the vector that agents see.
      action_space: how it takes an action; None where it takes what agents give.
      num_envs: environments of each seed that step side by side.
      additive_reward: whether the last entry of an observation is what the state it shows pays whatever was visited before,
        for agents that learn from that in place of rewards which depend on the past.
    """

    observation_shape: tuple[int, ...]
    action_shape: tuple[int, ...]
    horizon: int
    num_actions: int | None = None
    choices: tuple[int, ...] | None = None
    observation_space: Space | None = None
    action_space: Space | None = None
    num_envs: int = 1
    additive_reward: bool = False

    @property
    def observation_size(self) -> int:
        """Number of entries of one observation."""
        return self.observation_shape[0]

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Height, width and channels of the images that end an observation; none where it has none."""
        return () if self.observation_space is None else self.observation_space.frames

    @property
    def image_size(self) -> int:
        """Number of entries of one observation that are pixels of images; they stand last."""
        return sum(math.prod(frame) for frame in self.frames)

    @property
    def is_continuous(self) -> bool:
        """Whether actions are real numbers in [-1, 1], not choices."""
        return self.num_actions is None and self.choices is None

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


@struct.dataclass
class CandidateSets:
    """A batch of observations with candidate actions that a teacher has scored, with any leading axes `[...]`.

    Attributes:
      observation: [..., observation].
      candidates: [..., P, action] before squashing where the policy squashes; [..., P] for discrete actions.
      teacher_log_prob: [..., P] the teacher's log-probability (or density before squashing) of each, in nats.
      drawn: [..., P] 1 where the candidate was drawn from the teacher, 0 where from a broader proposal.
      teacher: [..., parameter] what the teacher's distribution is made of: mean and log standard deviation, one after the
        other, or the logits of discrete actions.
    """

    observation: Array
    candidates: Array
    teacher_log_prob: Array
    drawn: Array
    teacher: Array


@struct.dataclass
class SegmentPairs:
    """A batch of pairs of behaviour segments of K steps, with any leading axes `[...]`.

    Attributes:
      observation: [..., 2, K, observation] of the first and of the second segment.
      action: [..., 2, K, action].
      label: [...] 1 where the second is preferred, 0 where the first is, 1/2 for a tie.
    """

    observation: Array
    action: Array
    label: Array


@struct.dataclass
class LoggedTransition(Transition):
    """A batch of transitions from a data set, with what the data itself says came after, with any leading axes `[...]`.

    Attributes:
      next_action: [..., action] the action taken at `next_observation` in the data; zeros where there is none.
      followed: [...] 1 where there is one: neither an episode nor the data ends here; else 0.
      return_to_go: [...] rewards from this step to the last one of its episode, discounted to this step; NaN where the data
        breaks the episode off.
    """

    next_action: Array
    followed: Array
    return_to_go: Array


@struct.dataclass
class Windows:
    """A batch of windows of T consecutive steps of one episode each, padded on the left, with leading axes `[...]`.

    The present is the step from which the agent looks ahead; what comes before is its past, what follows, the present
    itself included, its future. Entries of padded places are zeros.

    Attributes:
      observation: [..., T, observation] before each action.
      action: [..., T, action]; [..., T] for discrete actions, as floats.
      reward: [..., T].
      next_observation: [..., T, observation] what each action led to.
      return_to_go: [..., T] rewards from each step to the last one of its episode, discounted to this step.
      timestep: [..., T] int32 steps of the episode before each.
      mask: [..., T] 1 where there is a step, 0 for padding.
      future: [..., T] 1 from the present on; the last place always belongs to it.
    """

    observation: Array
    action: Array
    reward: Array
    next_observation: Array
    return_to_go: Array
    timestep: Array
    mask: Array
    future: Array
