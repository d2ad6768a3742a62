"""Where prompts come from: what a source with state is, and the one without, the task itself.

A source is a frozen dataclass of its settings, hashable like a task. Its state is a pytree of arrays of fixed shapes, a
part of the training state: it is saved with it, and seeds are a `vmap`. Shapes: B prompts of P tokens, each answered by a
group of G responses of T tokens, N = B * G of them, a group next to each other.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.settings import Settings, check_settings
from maxent_rl.tokens.batch import Prompted, TokenBatch
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.conversation import ConversationTask
from maxent_rl.types import Array, Metrics, PyTree, Spec


@struct.dataclass
class Posed:
    """Prompts as a policy is to see them.

    Attributes:
      prompts: [B, P] int32, padded on either side.
      prompt_mask: [B, P] bool.
      problems: [B, Q] the task's own prompts, by which responses are checked; None where these are the prompts.
      notes: pytree of [B, ...]: what the source wants to know of them when their outcomes come back.
    """

    prompts: Array
    prompt_mask: Array
    problems: Array | None = None
    notes: PyTree = None

    @property
    def checked(self) -> Array:
        """[B, Q] the prompts by which responses are checked."""
        return self.prompts if self.problems is None else self.problems

    def repeated(self, times: int) -> Posed:
        """Each of them `times` times, side by side."""
        rows: Posed = jax.tree.map(lambda leaf: jnp.repeat(leaf, times, axis=0), self)
        return rows


Answer: TypeAlias = Callable[[Array, Posed], TokenBatch]
"""Draws a group of responses to each prompt and rewards them: a random key and B prompts to a batch of B groups."""


class PromptSource(Settings, abc.ABC):
    """What poses the prompts of each iteration, and hears what came of them. Subclasses are frozen dataclasses."""

    name: ClassVar[str]
    credits_apart: ClassVar[bool] = False
    """Whether it rewards tokens apart from answers, so that an objective must take `span_advantages`."""
    poses_as_written: ClassVar[bool] = False
    """Whether its prompts are the task's own and it pays for nothing else, so that they may begin conversations."""

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
          InvalidSettingError: one out of its bounds.
        """
        check_settings(self)

    def check(self, task: TokenTask[Any]) -> None:
        """Refuses a task that it cannot pose prompts of.

        Raises:
          InvalidSettingError: why not.
          IncompatibleEnvironmentError: the task lacks what the source needs.
        """

    def init(self, key: Array, spec: Spec) -> PyTree:
        """The state before the first iteration, which depends on shapes alone; None for none.

        Args:
          key: [] random key.
          spec: of the task: Q in `observation_shape`, T in `action_shape`.
        """
        return None

    @abc.abstractmethod
    def draw(self, task: TokenTask[Any], state: PyTree, key: Array, count: int) -> tuple[PyTree, Posed]:
        """Draws the prompts of an iteration.

        Args:
          task: whose problems are posed.
          state: of the source.
          key: [] random key.
          count: B.
        """

    def demonstrations(
        self, task: TokenTask[Any], prompt_key: Array, answer_key: Array, count: int
    ) -> tuple[Prompted, Array]:
        """Draws right answers for a warm start: (prompts and masks of [count, ...], tokens [count, T])."""
        prompts, prompt_mask = task.prompts(prompt_key, count)
        if isinstance(task, ConversationTask):
            spoken = task.transcripts(answer_key, prompts)
            return Prompted(prompts, prompt_mask, spoken.there, said=spoken.mask), spoken.tokens
        tokens, mask = task.demonstrations(answer_key, prompts)
        return Prompted(prompts, prompt_mask, mask), tokens

    def reward_parts(self, task: TokenTask[Any], posed: Posed, tokens: Array, mask: Array) -> Array:
        """What responses are rewarded with, part by part, the task's own first.

        Args:
          task: that checks.
          posed: with a row for each response.
          tokens: [N, T].
          mask: [N, T].

        Returns:
          [N, K], whose sum over K is the reward.
        """
        return task.reward(posed.checked, tokens, mask)[:, None]

    def feedback(
        self,
        task: TokenTask[Any],
        state: PyTree,
        key: Array,
        batch: TokenBatch,
        own: Array,
        notes: PyTree,
        answer: Answer,
    ) -> tuple[PyTree, TokenBatch, Metrics]:
        """Hears what came of the prompts; may put rows behind those of the batch, or set columns of it.

        Args:
          task: whose problems they are.
          state: of the source.
          key: [] random key.
          batch: the responses, their prompts in `context`; the first B groups are those to the B prompts.
          own: [B] bool: which prompts this source has posed.
          notes: pytree of [B, ...]: what it noted of them.
          answer: draws further responses.

        Returns:
          (state, batch, metrics).
        """
        return state, batch, {}


@dataclasses.dataclass(frozen=True)
class TaskPrompts(PromptSource):
    """The task itself: each iteration poses new problems of it."""

    name: ClassVar[str] = "task"
    poses_as_written: ClassVar[bool] = True

    def draw(self, task: TokenTask[Any], state: PyTree, key: Array, count: int) -> tuple[PyTree, Posed]:
        """As `TokenTask.prompts` draws them."""
        return state, Posed(*task.prompts(key, count))


def rows_posed(context: Prompted) -> Posed:
    """What was posed to each response of a batch, from its context."""
    return Posed(context.prompts, context.prompt_mask, context.problems, context.notes)
