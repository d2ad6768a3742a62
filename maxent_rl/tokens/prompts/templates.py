"""Prompt augmentation: problems in templates, drawn anew each time, that ask for several forms of answers and pay for them.

All responses of a group answer the same template. The reward is the task's, which knows nothing of templates, plus what the
template pays for the form of the answer, from 0 to 1.

Source: Prompt Augmentation Scales up GRPO Training on Mathematical Reasoning (arXiv 2602.03190) and its released code
(wenquanlu/prompt-augmentation-GRPO). It trains by GRPO with an upper bound of the clip of 0.28, dual clip 3 and means over
tokens: `objectives.make("grpo", clip_high=0.28, dual_clip=3)`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Count, Fraction
from maxent_rl.tokens.batch import Prompted, TokenBatch
from maxent_rl.tokens.prompts.source import Answer, Posed, PromptSource, TaskPrompts
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.template import Template
from maxent_rl.tokens.tasks.writing import PAD_TOKEN, join
from maxent_rl.types import Array, Metrics, PyTree, Spec

_TEMPLATE_STREAM = 0x7E4D1A7E
"""Folded into the key of a draw for its templates: far from the numbers of prompts, which the task folds into it."""


@struct.dataclass
class TemplateBank:
    """K templates as arrays, padded behind.

    Attributes:
      prefixes: [K, A] int32.
      suffixes: [K, S] int32.
      prefills: [K, F] int32.
      markers: [K, M, L] int32 the markers that the answer itself must have.
      asked: [K, M] bool: which of them there are.
      forms: [K] int32: 0 pays 1 always, 1 pays 1 where all markers stand exactly once, 2 the share of them that does.
    """

    prefixes: Array
    suffixes: Array
    prefills: Array
    markers: Array
    asked: Array
    forms: Array

    @classmethod
    def of(cls, templates: tuple[Template, ...], task: TokenTask[Any]) -> TemplateBank:
        """The templates in the tokens of a task.

        Raises:
          InvalidSettingError: there are none, or one has a character that the task does not have.
        """
        if not templates:
            raise InvalidSettingError("Prompts need one template at least, got none.")
        prefixes, suffixes, prefills = (
            _table([getattr(each, part) for each in templates], task) for part in ("prefix", "suffix", "prefill")
        )
        most = max(1, *(len(each.asked) for each in templates))
        markers = [each.asked + ("",) * (most - len(each.asked)) for each in templates]
        table = _table([marker for row in markers for marker in row], task, least=1)
        return cls(
            prefixes,
            suffixes,
            prefills,
            table.reshape(len(templates), most, -1),
            jnp.asarray([[bool(marker) for marker in row] for row in markers]),
            jnp.asarray([("none", "phrase", "tags").index(each.form) for each in templates], jnp.int32),
        )

    @property
    def size(self) -> int:
        """K."""
        return self.forms.shape[0]


def augment(key: Array, prompts: Array, bank: TemplateBank) -> tuple[Array, Array, Array]:
    """Puts each prompt into a template drawn uniformly, independently of the others.

    Args:
      key: [] random key.
      prompts: [B, Q] int32 tokens, padded on either side.
      bank: of K templates.

    Returns:
      (tokens [B, A + Q + S + F] int32, padded on the left; mask of the same shape; the template [B] int32 of each).
    """
    template = jax.random.randint(key, prompts.shape[:1], 0, bank.size)
    return *wrap(prompts, template, bank), template


def wrap(prompts: Array, template: Array, bank: TemplateBank) -> tuple[Array, Array]:
    """Puts prompts [B, Q] into the templates [B]: (tokens, mask), as in `augment`."""
    parts = (bank.prefixes[template], prompts, bank.suffixes[template], bank.prefills[template])
    tokens = join([(part, part != PAD_TOKEN) for part in parts], pad_left=True)
    return tokens, tokens != PAD_TOKEN


def format_reward(tokens: Array, mask: Array, template: Array, bank: TemplateBank) -> Array:
    """What templates pay for the form of responses.

    Each marker counts that occurs exactly once, as a run of its tokens; in which order they stand is not looked at.

    Args:
      tokens: [N, T] responses, without what was filled in before them.
      mask: [N, T] their tokens.
      template: [N] int32 which template each answers.
      bank: of the templates.

    Returns:
      [N] from 0 to 1: always 1, 1 where all markers count, or the share of them that does.
    """
    asked = bank.asked[template]
    once = marker_counts(tokens, mask, bank.markers[template]) == 1
    number = jnp.sum(asked, axis=-1)
    share = jnp.sum(once & asked, axis=-1) / jnp.maximum(number, 1)
    paid = jnp.stack([jnp.ones(share.shape), (share == 1.0).astype(jnp.float32), share])
    return jnp.take_along_axis(paid, bank.forms[template][None], axis=0)[0]


def marker_counts(tokens: Array, mask: Array, markers: Array) -> Array:
    """How often each marker occurs in a response.

    Args:
      tokens: [N, T].
      mask: [N, T] what is looked at.
      markers: [N, M, L] runs of tokens, padded behind.

    Returns:
      [N, M] int32; a marker without tokens occurs nowhere.
    """
    seen = jnp.where(jnp.asarray(mask, bool), tokens, PAD_TOKEN)
    length = markers.shape[-1]
    padded = jnp.pad(seen, ((0, 0), (0, length - 1)))
    runs = jnp.stack([padded[:, place : place + seen.shape[1]] for place in range(length)], axis=-1)  # [N, T, L]
    wanted = markers[:, None]  # [N, 1, M, L]
    same = jnp.all((runs[:, :, None] == wanted) | (wanted == PAD_TOKEN), axis=-1)
    return jnp.sum(same & jnp.any(wanted != PAD_TOKEN, axis=-1), axis=1, dtype=jnp.int32)


@dataclasses.dataclass(frozen=True)
class TemplatePrompts(PromptSource):
    """Problems of another source, in templates: the task's own, or others that are given.

    In the task's own templates a warm start shows answers in the form that each asks for, of all of them, whatever number
    then poses problems. Templates that are given wrap the task's answers as they are.
    """

    name: ClassVar[str] = "templates"

    templates: Count | None = None
    """How many of the task's own templates pose problems, from the first on; None for all."""
    kind: Literal["layouts", "synonyms"] = "layouts"
    """Which of the task's own: each of another form of answer, or all of the first form."""
    format_rewards: bool = True
    """Whether the form of answers is paid for."""
    noise: Fraction = 0.0
    """Share of wrong answers in a warm start, of tasks that have `noise`."""
    given: tuple[Template, ...] | None = None
    """Templates in place of the task's own."""
    over: PromptSource = TaskPrompts()  # noqa: RUF009  # frozen
    """Whose problems are put into templates."""

    def check(self, task: TokenTask[Any]) -> None:
        """Refuses templates that the task has no characters for, and numbers of templates that it does not have.

        Raises:
          InvalidSettingError: why not.
        """
        self.over.check(task)
        if self.given and (self.templates is not None or self.kind != "layouts"):
            raise InvalidSettingError("Templates that are given are all used: leave out how many of the task's own.")
        known = self.given or self._of_task(task)
        if not known:
            raise InvalidSettingError(f"{task.name} has no templates of its own: give some, as in template='{{}}'.")
        if self.templates is not None and self.templates > len(known):
            raise InvalidSettingError(
                f"{task.name} has {len(known)} templates of its own, got templates={self.templates}."
            )
        if self.noise and not hasattr(task, "noise"):
            raise InvalidSettingError(f"{task.name} shows right answers alone: leave out noise={self.noise:g}.")
        TemplateBank.of(known, task)

    def init(self, key: Array, spec: Spec) -> PyTree:
        """That of the source of problems."""
        return self.over.init(key, spec)

    def draw(self, task: TokenTask[Any], state: PyTree, key: Array, count: int) -> tuple[PyTree, Posed]:
        """Draws problems with the key, as their source does, and a template for each."""
        state, posed = self.over.draw(task, state, key, count)
        bank = self.bank(task)
        tokens, mask, template = augment(jax.random.fold_in(key, _TEMPLATE_STREAM), posed.prompts, bank)
        return state, Posed(tokens, mask, posed.checked, {"template": template, "over": posed.notes})

    def demonstrations(
        self, task: TokenTask[Any], prompt_key: Array, answer_key: Array, count: int
    ) -> tuple[Prompted, Array]:
        """Problems in all templates, with answers of the form that each asks for."""
        task = dataclasses.replace(task, noise=self.noise) if self.noise else task  # type: ignore[type-var]
        problems, _ = task.prompts(prompt_key, count)
        bank = TemplateBank.of(self.given or (*task.templates, *task.synonyms[1:]), task)
        prompts, prompt_mask, _ = augment(jax.random.fold_in(prompt_key, _TEMPLATE_STREAM), problems, bank)
        tokens, mask = task.demonstrations(answer_key, problems if self.given else prompts)
        return Prompted(prompts, prompt_mask, mask), tokens

    def reward_parts(self, task: TokenTask[Any], posed: Posed, tokens: Array, mask: Array) -> Array:
        """Those of the source of problems, and the form's."""
        found = self.over.reward_parts(task, _without(posed), tokens, mask)
        if not self.format_rewards:
            return found
        form = format_reward(tokens, mask, posed.notes["template"], self.bank(task))
        return jnp.concatenate([found, form[:, None]], axis=-1)

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
        """Tells the source of problems, which hears rewards with those for form; measures right answers and form apart."""
        state, batch, metrics = self.over.feedback(task, state, key, batch, own, notes["over"], answer)
        rows = own.shape[0] * batch.group_size
        counts = jnp.repeat(own, batch.group_size)
        tokens, mask = jnp.asarray(batch.tokens)[:rows], batch.mask[:rows]
        context: Any = batch.context
        right = task.reward(context.problems[:rows], tokens, mask)
        form = format_reward(tokens, mask, jnp.repeat(notes["template"], batch.group_size), self.bank(task))
        number = jnp.maximum(jnp.sum(counts), 1)
        found = {"prompts/right": right, "prompts/form": form}
        return state, batch, metrics | {name: jnp.sum(each * counts) / number for name, each in found.items()}

    def bank(self, task: TokenTask[Any]) -> TemplateBank:
        """The templates that pose problems."""
        return TemplateBank.of(self.given or self._of_task(task)[: self.templates], task)

    def _of_task(self, task: TokenTask[Any]) -> tuple[Template, ...]:
        return task.templates if self.kind == "layouts" else task.synonyms


def _without(posed: Posed) -> Posed:
    """The problems as their own source noted them."""
    return Posed(posed.checked, posed.checked != PAD_TOKEN, posed.problems, posed.notes["over"])


def _table(texts: list[str], task: TokenTask[Any], least: int = 0) -> Array:
    """[len(texts), longest] int32, padded behind; `least` columns at least."""
    rows = [task.encode(text) for text in texts]
    longest = max(least, *map(len, rows))
    return jnp.asarray(
        np.array([np.pad(row, (0, longest - len(row))) for row in rows], np.int32).reshape(len(rows), -1)
    )
