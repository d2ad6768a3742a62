"""Several sources in one: each poses a share of the prompts, and hears of its own."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens.batch import Prompted, TokenBatch
from maxent_rl.tokens.prompts.source import Answer, Posed, PromptSource, TaskPrompts
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.types import Array, Metrics, PyTree, Spec


@dataclasses.dataclass(frozen=True)
class MixturePrompts(PromptSource):
    """Prompts of several sources side by side, in fixed shares; a warm start is the first one's."""

    name: ClassVar[str] = "mixture"

    sources: tuple[PromptSource, ...] = (TaskPrompts(),)
    """What is mixed."""
    shares: tuple[float, ...] = (1.0,)
    """How much each poses, in any unit."""

    def check(self, task: TokenTask[Any]) -> None:
        """Refuses shares that do not fit the sources.

        Raises:
          InvalidSettingError: they do not, or a source refuses the task.
        """
        if len(self.sources) != len(self.shares) or not self.sources:
            raise InvalidSettingError(
                f"A mixture has a share for each source, got {len(self.sources)} sources and {len(self.shares)} shares."
            )
        if min(self.shares) < 0 or not sum(self.shares) > 0:
            raise InvalidSettingError(f"Shares are not negative, and one is above 0; got {self.shares}.")
        for source in self.sources:
            source.check(task)

    @property
    def credits_apart(self) -> bool:  # type: ignore[override]
        """Whether any of them does."""
        return any(source.credits_apart for source in self.sources)

    @property
    def poses_as_written(self) -> bool:  # type: ignore[override]
        """Whether all of them do."""
        return all(source.poses_as_written for source in self.sources)

    def counts(self, count: int) -> tuple[int, ...]:
        """How many of `count` prompts each source poses: its share rounded down, and one more by the largest remainders."""
        exact = [count * share / sum(self.shares) for share in self.shares]
        found = [int(each) for each in exact]
        by_remainder = sorted(range(len(exact)), key=lambda index: found[index] - exact[index])
        for index in by_remainder[: count - sum(found)]:
            found[index] += 1
        return tuple(found)

    def init(self, key: Array, spec: Spec) -> PyTree:
        """Those of all sources."""
        keys = jax.random.split(key, len(self.sources))
        return tuple(source.init(one, spec) for source, one in zip(self.sources, keys, strict=True))

    def draw(self, task: TokenTask[Any], state: PyTree, key: Array, count: int) -> tuple[PyTree, Posed]:
        """Draws those of each source, one after the other, padded on the left to the longest."""
        keys = jax.random.split(key, len(self.sources))
        states, posed, which = [], [], []
        for index, number in enumerate(self.counts(count)):
            if number == 0:
                states.append(state[index])
                continue
            own, found = self.sources[index].draw(task, state[index], keys[index], number)
            states.append(own)
            posed.append((index, number, found))
            which += [index] * number
        width = max(found.prompts.shape[1] for _, _, found in posed)
        prompts = jnp.concatenate([_widened(found.prompts, width) for _, _, found in posed])
        mask = jnp.concatenate([_widened(found.prompt_mask, width) for _, _, found in posed])
        problems = jnp.concatenate([found.checked for _, _, found in posed])
        notes, begin = {"source": jnp.asarray(which, jnp.int32)}, 0
        for index, number, found in posed:
            notes[f"of {index}"] = jax.tree.map(lambda leaf: _placed(leaf, begin, count), found.notes)  # noqa: B023
            begin += number
        return tuple(states), Posed(prompts, mask, problems, notes)

    def demonstrations(
        self, task: TokenTask[Any], prompt_key: Array, answer_key: Array, count: int
    ) -> tuple[Prompted, Array]:
        """Those of the first source."""
        return self.sources[0].demonstrations(task, prompt_key, answer_key, count)

    def reward_parts(self, task: TokenTask[Any], posed: Posed, tokens: Array, mask: Array) -> Array:
        """Those of each row's source; parts that it does not have are 0."""
        found = []
        for index, source in enumerate(self.sources):
            if f"of {index}" in posed.notes:
                own = Posed(posed.prompts, posed.prompt_mask, posed.problems, posed.notes[f"of {index}"])
                parts = source.reward_parts(task, own, tokens, mask)
                found.append(jnp.where((posed.notes["source"] == index)[:, None], parts, 0.0))
        most = max(parts.shape[1] for parts in found)
        wide = [jnp.pad(parts, ((0, 0), (0, most - parts.shape[1]))) for parts in found]
        return jnp.sum(jnp.stack(wide), axis=0)

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
        """Tells each source of its own prompts; metrics of the same name are of the last that has it."""
        metrics: Metrics = {}
        states = list(state)
        keys = jax.random.split(key, len(self.sources))
        for index, source in enumerate(self.sources):
            if f"of {index}" in notes:
                mine = own & (notes["source"] == index)
                states[index], batch, found = source.feedback(
                    task, state[index], keys[index], batch, mine, notes[f"of {index}"], answer
                )
                metrics |= found
        return tuple(states), batch, metrics


def _widened(rows: Array, width: int) -> Array:
    return jnp.pad(rows, ((0, 0), (width - rows.shape[1], 0)))


def _placed(leaf: Array, begin: int, count: int) -> Array:
    """Rows at their place among `count`, zeros elsewhere."""
    return jnp.pad(leaf, ((begin, count - begin - leaf.shape[0]), *[(0, 0)] * (leaf.ndim - 1)))
