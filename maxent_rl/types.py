"""The values that the layers hand to each other: what an environment looks like, and what happened in it.

Nothing here computes. `losses` and `distributions` do not import even this.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
from flax import struct

from maxent_rl.errors import MaxentRLError
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


def check_state(
    call: str,
    begin: str,
    before: PyTree,
    after: PyTree,
    error: type[MaxentRLError],
    keeps_type: Callable[[Any, Any], bool] = lambda new, old: bool(new.dtype == old.dtype),
) -> None:
    """Refuses a state that comes back in another form than it had, which no loop could carry through compiled programs.

    Args:
      call: the function that gave it, as `SAC.update`.
      begin: the function that gives the first one, as `init`.
      before: the state that went in: arrays, traced or not, or their shapes.
      after: the state that came back; what is no array in it is told as it is.
      error: what is raised, with one sentence.
      keeps_type: (new, old) whether an array has the type of the one before.
    """
    structures: list[Any] = [jax.tree.structure(each) for each in (before, after)]
    if structures[0] != structures[1]:
        raise error(
            f"{call} must return a state of the structure that {begin} gives, {kind_of(before)}, got "
            f"{kind_of(after)}{_first_difference(before, after)}."
        )
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        if not hasattr(new, "dtype") or new.shape != old.shape or not keeps_type(new, old):
            raise error(
                f"{call} must return the state in the shapes and types that it has, but "
                f"{jax.tree_util.keystr(path) or 'it'}, which is {form_of(old)}, comes back as {form_of(new)}: start "
                f"with that in {begin}, or keep the first with astype and reshape."
            )


def _first_difference(before: PyTree, after: PyTree) -> str:
    old, new = ({jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tree)} for tree in (before, after))
    if type(before) is not type(after) or old == new:
        return ""
    missing, added = sorted(old - new), sorted(new - old)
    return f" without {missing[0]}" if missing else f" with {added[0]} besides"


def form_of(leaf: Any) -> str:
    """Type and shape of an array, as `float32[3, 4]`."""
    return f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "dtype") else repr(leaf)


def kind_of(value: Any) -> str:
    """What something is, in a few words."""
    if hasattr(value, "dtype"):
        return f"an array {form_of(value)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return (
        "None"
        if value is None
        else f"{'an' if type(value).__name__[0] in 'aeiouAEIOU' else 'a'} {type(value).__name__}"
    )
