"""Groups of responses to a task's prompts, with rewards and all that an objective asks of the policy that drew them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from maxent_rl import losses
from maxent_rl.tokens.batch import Prompted, TokenBatch
from maxent_rl.tokens.branching import Forks, branch_metrics, turn_entropies
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.objectives import Hint, Objective, Sampling, Statistic, Teaching, informative_groups
from maxent_rl.tokens.prompts.source import Posed, PromptSource, TaskPrompts, rows_posed
from maxent_rl.tokens.rollouts.spoken import Spoken, speak
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.conversation import ConversationTask
from maxent_rl.tokens.teachers.hints import with_answers, with_siblings
from maxent_rl.types import Array, Metrics, PyTree

_FURTHER = 2**20  # beyond what keys are split into
_FEEDBACK_STREAM = 0xFEEDBACC  # likewise
_TRIED_STREAM = 0x7121ED  # likewise


@dataclasses.dataclass(frozen=True)
class Groups:
    """How many responses of which length are drawn to a prompt, and how often.

    Attributes:
      size: responses to each prompt.
      response_length: T, the most tokens of a response.
      rounds: most rounds of responses in a batch; those after the first replace groups of equal rewards.
    """

    size: int
    response_length: int
    rounds: int = 1


def gather(
    model: LanguageModel,
    task: TokenTask[Any],
    key: Array,
    count: int,
    groups: Groups,
    objective: Objective,
    state: PyTree,
    reference: LanguageModel | None = None,
    hint: Hint | None = None,
    critic: Callable[[Prompted, Array], Array] | None = None,
    source: PromptSource | None = None,
    source_state: PyTree = None,
) -> tuple[PyTree, TokenBatch, Metrics]:
    """Draws the responses of one iteration.

    Args:
      model: that answers.
      task: that poses problems and checks.
      key: [] random key.
      count: N, responses; whole groups.
      groups: how they are drawn.
      objective: that will learn from them; it says what statistics and side responses it needs.
      state: of the objective.
      reference: the model whose log-probabilities go into the batch too; None for none.
      hint: what a teacher is told before the prompt; None for what the objective wants.
      critic: gives the values [N, T] of what stands before each of the tokens [N, T] of responses; None for none.
      source: of prompts; None for the task itself.
      source_state: of the source.

    Returns:
      (state of the source, batch, metrics): all metrics but "rollout/mixed_groups" are those of the first round. A source may
      have put whole groups of rows behind those that were drawn.
    """
    source = source or TaskPrompts()
    wanted, asked = objective.sampling(state), objective.statistics(state)
    drawing = _Drawing(model, task, groups, objective, wanted, asked, reference, critic, source)
    # `fold_in` and `split` of one key give the same keys, so each use has one of its own.
    prompt_key, draw_key, more_key, side_key = jax.random.split(key, 4)
    num_groups = count // groups.size
    source_state, posed = source.draw(task, source_state, prompt_key, num_groups)
    batch, branched = drawing.drawn(draw_key, posed)
    # Of the first round, which is drawn without a choice: groups that are kept for what they teach say less of the policy.
    metrics = {
        "episode/return": losses.masked_mean(batch.rewards, jnp.isfinite(batch.rewards)),
        "episode/length": jnp.mean(jnp.sum(batch.mask, axis=-1)),
        "actor/entropy": losses.masked_mean(batch.entropy_old, batch.mask),  # type: ignore[arg-type]
        "rollout/truncated": jnp.mean(batch.truncated.astype(jnp.float32)),  # type: ignore[union-attr]
        **branched,
    }
    if batch.calls is not None:
        metrics["episode/calls"] = jnp.mean(batch.calls.astype(jnp.float32))
    rounds = jnp.ones(())
    if groups.rounds > 1:
        source_state, batch, rounds = drawing.replace_groups(source_state, more_key, batch)
    mixed = informative_groups(batch.rewards, groups.size)
    metrics |= {"rollout/mixed_groups": jnp.mean(mixed.astype(jnp.float32)), "rollout/rounds": rounds}
    source_state, batch, heard = drawing.feedback(source_state, key, batch)
    side = drawing.wanted.side
    batch = _told(drawing.completed(batch), task, jax.random.fold_in(key, _FURTHER), objective.teaching(state), hint)
    if side is not None:
        few = side.prompts(num_groups)
        context = cast(Prompted, batch.context)
        answered = jax.tree.map(lambda rows: rows[:: groups.size][:few], rows_posed(context))
        batch = dataclasses.replace(batch, side=drawing.completed(drawing.draw(side_key, answered, side.temperature)))
    return source_state, batch, metrics | heard


def _told(batch: TokenBatch, task: TokenTask[Any], key: Array, wanted: Teaching, hint: Hint | None) -> TokenBatch:
    """With what a teacher is told before the prompts, where there is one."""
    hint = hint or wanted.hint
    if not wanted.compared or hint is None:
        return batch
    if hint == "answer":
        return with_answers(batch, task, key)
    if hint == "sibling":
        return with_siblings(batch, 0.5 if wanted.threshold is None else wanted.threshold)
    # A teacher who is told nothing may know more all the same: of all rows alike.
    return dataclasses.replace(batch, taught=jnp.ones(batch.mask.shape[0], bool))


@dataclasses.dataclass(frozen=True)
class _Drawing:
    """Who answers what, and what an objective wants of it.

    Attributes:
      model, task, groups, objective, reference, critic, source: as `gather` takes them.
      wanted: how the objective wants responses to be drawn.
      asked: the statistics that it asks for.
    """

    model: LanguageModel
    task: TokenTask[Any]
    groups: Groups
    objective: Objective
    wanted: Sampling
    asked: dict[str, Statistic]
    reference: LanguageModel | None
    critic: Callable[[Prompted, Array], Array] | None
    source: PromptSource

    def draw(self, key: Array, posed: Posed, temperature: Array | None = None) -> TokenBatch:
        """The batch that `drawn` gives."""
        return self.drawn(key, posed, temperature)[0]

    def drawn(self, key: Array, posed: Posed, temperature: Array | None = None) -> tuple[TokenBatch, Metrics]:
        """Draws and checks a group of responses to each prompt, at the model's temperature or at so many times that.

        Log-probabilities and entropies are always those of the model's own temperature. Tokens have temperatures of their
        own, and conversations branch, where the objective wants it, but for responses besides the batch.

        Returns:
          (batch, how its conversations have branched, if they could).
        """
        model, groups = self.model, self.groups
        forks = self._forks(key, posed) if temperature is None else None
        posed = posed.repeated(groups.size)
        given = model, self.task, self.source, posed, key, groups.response_length
        anchors = "anchors" in self._needed
        if temperature is None:
            spoken = speak(*given, token_temperature=self.wanted.temperature, forks=forks, anchors=anchors)
        else:
            spoken = speak(*given, temperature * model.temperature, anchors=anchors)
        found = spoken.said
        context = Prompted(posed.prompts, posed.prompt_mask, spoken.there, posed.problems, posed.notes)
        logp, entropy = found.logp, found.entropy
        if temperature is not None:
            own = model.statistics(context, found.tokens)
            logp, entropy = own.logp, own.entropy
        calls = spoken.calls
        if calls is None and "calls" in self._needed:  # a response of one turn calls nothing
            calls = jnp.zeros(found.mask.shape[0], jnp.int32)
        batch = TokenBatch(
            logp_old=logp,
            mask=found.mask,
            rewards=spoken.rewards,
            group_size=groups.size,
            tokens=found.tokens,
            entropy_old=entropy,
            truncated=~spoken.ended,
            calls=calls,
            context=context,
            **self._further(context, spoken),
        )
        if forks is None or spoken.parent is None:
            return batch, {}
        branched = branch_metrics(spoken.parent, found.tokens, found.mask, groups.size)
        return batch, branched | {"rollout/roots": jnp.mean(jnp.asarray(forks.roots, jnp.float32))}

    def _forks(self, key: Array, posed: Posed) -> Forks | None:
        """When conversations about B prompts are to be continued twice; None where none can be, or nobody wants it."""
        wanted, model, task = self.wanted.branching, self.model, self.task
        if wanted is None or not isinstance(task, ConversationTask):
            return None

        def tried() -> tuple[Array, Array]:
            tried_key = jax.random.fold_in(key, _TRIED_STREAM)
            one = speak(model, task, self.source, posed, tried_key, self.groups.response_length)
            return turn_entropies(one.said.entropy, one.turns, one.said.mask, math.log(model.config.vocabulary_size))

        return wanted.forks(self.groups.size, tried)

    def _further(self, context: Prompted, spoken: Spoken) -> dict[str, Any]:
        """The columns that only some objectives read, of those that this one does."""
        prompts, task, found = context.checked, self.task, spoken.said
        makers: dict[str, Callable[[], Array]] = {
            "problem": lambda: task.problems(prompts),
            "task": lambda: task.kinds(prompts),
            "answers": lambda: task.parsed(prompts, found.tokens, found.mask),
            "difficulty": lambda: task.difficulties(prompts),
            "logp_drawn": lambda: found.logp_drawn,
            "greedy_rewards": lambda: self._greedy_rewards(context),
            "reward_parts": lambda: spoken.parts,
            "turns": lambda: spoken.turns,
            "turn_rewards": lambda: jnp.take_along_axis(spoken.turn_rewards, spoken.turns, axis=1),
            "anchors": lambda: cast(Array, spoken.anchors),
            "copies": lambda: spoken.copies,
            "span": lambda: task.apart(found.tokens, found.mask),
            "span_advantages": lambda: jnp.zeros(prompts.shape[:1]),
        }
        return {name: make() for name, make in makers.items() if name in self._needed}

    def _greedy_rewards(self, context: Prompted) -> Array:
        """[N] the reward of the likeliest response to each prompt, which is found once for a group."""
        size = self.groups.size
        posed: Posed = jax.tree.map(lambda rows: rows[::size], rows_posed(context))
        found = speak(self.model, self.task, self.source, posed, None, self.groups.response_length)
        return jnp.repeat(found.rewards, size)

    @property
    def _needed(self) -> set[str]:
        return {name for stage in self.objective.stages for name in stage.inputs}

    def teaching(self, batch: TokenBatch) -> Array:
        """[group] which groups the objective can learn from."""
        if self.wanted.teaches is None:
            return informative_groups(batch.rewards, self.groups.size)
        return self.wanted.teaches(batch)[:: self.groups.size]

    def replace_groups(self, state: PyTree, key: Array, batch: TokenBatch) -> tuple[PyTree, TokenBatch, Array]:
        """Draws further rounds until every group teaches something, or as often as `groups` allows.

        Groups that still teach nothing then stay in the batch.

        Returns:
          (state of the source of prompts, batch, rounds).
        """
        num_groups = batch.rewards.shape[0] // self.groups.size

        def goes_on(carry: tuple[PyTree, TokenBatch, Array]) -> Array:
            return (carry[2] < self.groups.rounds) & ~jnp.all(self.teaching(carry[1]))

        def draw_more(carry: tuple[PyTree, TokenBatch, Array]) -> tuple[PyTree, TokenBatch, Array]:
            own, held, rounds = carry
            prompt_key, draw_key = jax.random.split(jax.random.fold_in(key, rounds))
            own, posed = self.source.draw(self.task, own, prompt_key, num_groups)
            fresh = self.draw(draw_key, posed)
            return own, _fill(held, fresh, self.groups.size, self.teaching), rounds + 1

        state, batch, rounds = jax.lax.while_loop(goes_on, draw_more, (state, batch, jnp.ones((), jnp.int32)))
        return state, batch, rounds.astype(jnp.float32)

    def feedback(self, state: PyTree, key: Array, batch: TokenBatch) -> tuple[PyTree, TokenBatch, Metrics]:
        """Tells the source of prompts what came of them."""
        notes = jax.tree.map(lambda rows: rows[:: self.groups.size], cast(Prompted, batch.context).notes)
        own = jnp.ones(batch.rewards.shape[0] // self.groups.size, bool)
        key = jax.random.fold_in(key, _FEEDBACK_STREAM)
        return self.source.feedback(self.task, state, key, batch, own, notes, self.draw)

    def completed(self, batch: TokenBatch) -> TokenBatch:
        """With the reference's log-probabilities, the prompts', and the statistics that the objective asks for."""
        context, tokens = cast(Prompted, batch.context), cast(Array, batch.tokens)
        if self.asked:
            batch = dataclasses.replace(batch, statistics=self.model.statistics(context, tokens, self.asked).extra)
        if self.reference is not None:
            batch = dataclasses.replace(batch, logp_ref=self.reference.statistics(context, tokens).logp)
        if self.critic is not None:
            batch = dataclasses.replace(batch, values=self.critic(context, tokens))
        if "logp_prompt" in self._needed:
            of_prompts = self.model.prompt_log_probs(
                *(rows[:: self.groups.size] for rows in (context.prompts, context.prompt_mask))
            )
            batch = dataclasses.replace(batch, logp_prompt=jnp.repeat(of_prompts, self.groups.size, axis=0))
        return batch


def _fill(
    held: TokenBatch, fresh: TokenBatch, size: int, teaching: Callable[[TokenBatch], Array] | None = None
) -> TokenBatch:
    """Puts fresh groups that teach (whose rewards differ, if nothing else is said) in the place of held ones that do not."""
    teaching = teaching or (lambda batch: informative_groups(batch.rewards, size))
    is_free, is_good = ~teaching(held), teaching(fresh)
    # The i-th free place takes the i-th good group; stable sorting brings both to the front in order.
    places, sources = jnp.argsort(~is_free), jnp.argsort(~is_good)
    moved = jnp.arange(is_free.size) < jnp.minimum(jnp.sum(is_free), jnp.sum(is_good))
    source = jnp.zeros(is_free.size, jnp.int32).at[places].set(jnp.where(moved, sources, -1))

    def fill(old: Array, new: Array) -> Array:
        olds, news = (rows.reshape(-1, size, *rows.shape[1:]) for rows in (old, new))
        take = (source >= 0).reshape(-1, *[1] * (olds.ndim - 1))
        return jnp.where(take, news[jnp.maximum(source, 0)], olds).reshape(old.shape)

    filled: TokenBatch = jax.tree.map(fill, held, fresh)
    return filled
