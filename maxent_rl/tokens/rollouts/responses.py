"""Groups of responses to a task's prompts, with rewards and all that an objective asks of the policy that drew them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from maxent_rl import losses
from maxent_rl.tokens.batch import Prompted, TokenBatch
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.objectives import Hint, Objective, Sampling, Statistic, Teaching, informative_groups
from maxent_rl.tokens.sampling import Responses
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.teachers.hints import with_answers, with_siblings
from maxent_rl.types import Array, Metrics, PyTree

_FURTHER = 2**20  # beyond what keys are split into


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


def collect(
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
) -> tuple[TokenBatch, Metrics]:
    """Draws the responses of one iteration.

    Args:
      model: that answers.
      task: that poses prompts and checks.
      key: [] random key.
      count: N, responses; whole groups.
      groups: how they are drawn.
      objective: that will learn from them; it says what statistics and side responses it needs.
      state: of the objective.
      reference: the model whose log-probabilities go into the batch too; None for none.
      hint: what a teacher is told before the prompt; None for what the objective wants.
      critic: gives the values [N, T] of what stands before each of the tokens [N, T] of responses; None for none.

    Returns:
      (batch, metrics): all metrics but "rollout/mixed_groups" are those of the first round.
    """
    wanted, asked = objective.sampling(state), objective.statistics(state)
    drawing = _Drawing(model, task, groups, objective, wanted, asked, reference, critic)
    # `fold_in` and `split` of one key give the same keys, so each use has one of its own.
    prompt_key, draw_key, more_key, side_key = jax.random.split(key, 4)
    num_groups = count // groups.size
    batch = drawing.draw(draw_key, *task.prompts(prompt_key, num_groups))
    # Of the first round, which is drawn without a choice: groups that are kept for what they teach say less of the policy.
    metrics = {
        "episode/return": jnp.mean(batch.rewards),
        "episode/length": jnp.mean(jnp.sum(batch.mask, axis=-1)),
        "actor/entropy": losses.masked_mean(batch.entropy_old, batch.mask),  # type: ignore[arg-type]
        "rollout/truncated": jnp.mean(batch.truncated.astype(jnp.float32)),  # type: ignore[union-attr]
    }
    rounds = jnp.ones(())
    if groups.rounds > 1:
        batch, rounds = drawing.replace_groups(more_key, batch)
    mixed = informative_groups(batch.rewards, groups.size)
    metrics |= {"rollout/mixed_groups": jnp.mean(mixed.astype(jnp.float32)), "rollout/rounds": rounds}
    side = drawing.wanted.side
    batch = _told(drawing.completed(batch), task, jax.random.fold_in(key, _FURTHER), objective.teaching(state), hint)
    if side is not None:
        few = side.prompts(num_groups)
        context = cast(Prompted, batch.context)
        prompts, prompt_mask = (rows[:: groups.size][:few] for rows in (context.prompts, context.prompt_mask))
        batch = dataclasses.replace(
            batch, side=drawing.completed(drawing.draw(side_key, prompts, prompt_mask, side.temperature))
        )
    return batch, metrics


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
      model, task, groups, objective, reference, critic: as `collect` takes them.
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

    def draw(self, key: Array, prompts: Array, prompt_mask: Array, temperature: Array | None = None) -> TokenBatch:
        """Draws and checks a group of responses to each prompt, at the model's temperature or at so many times that.

        Log-probabilities and entropies are always those of the model's own temperature. Tokens have temperatures of their
        own where the objective wants it, but for responses besides the batch, which have theirs.
        """
        model, groups = self.model, self.groups
        prompts, prompt_mask = (jnp.repeat(rows, groups.size, axis=0) for rows in (prompts, prompt_mask))
        if temperature is None:
            found = model.respond(
                prompts, prompt_mask, key, groups.response_length, token_temperature=self.wanted.temperature
            )
        else:
            found = model.respond(prompts, prompt_mask, key, groups.response_length, temperature * model.temperature)
        context = Prompted(prompts, prompt_mask, found.mask)
        logp, entropy = found.logp, found.entropy
        if temperature is not None:
            own = model.statistics(context, found.tokens)
            logp, entropy = own.logp, own.entropy
        ended = jnp.any(found.mask & (found.tokens == TokenTask.end_token), axis=-1)
        rewards = self.task.reward(prompts, found.tokens, found.mask)
        return TokenBatch(
            logp_old=logp,
            mask=found.mask,
            rewards=rewards,
            group_size=groups.size,
            tokens=found.tokens,
            entropy_old=entropy,
            truncated=~ended,
            context=context,
            **self._further(context, found, rewards),
        )

    def _further(self, context: Prompted, found: Responses, rewards: Array) -> dict[str, Any]:
        """The columns that only some objectives read, of those that this one does."""
        prompts = context.prompts
        task = self.task
        makers: dict[str, Callable[[], Array]] = {
            "problem": lambda: task.problems(prompts),
            "task": lambda: task.kinds(prompts),
            "answers": lambda: task.parsed(prompts, found.tokens, found.mask),
            "difficulty": lambda: task.difficulties(prompts),
            "logp_drawn": lambda: found.logp_drawn,
            "greedy_rewards": lambda: self._greedy_rewards(context),
            "reward_parts": lambda: rewards[:, None],  # tasks pay one reward
        }
        return {name: make() for name, make in makers.items() if name in self._needed}

    def _greedy_rewards(self, context: Prompted) -> Array:
        """[N] the reward of the likeliest response to each prompt, which is found once for a group."""
        size = self.groups.size
        prompts, mask = context.prompts[::size], context.prompt_mask[::size]
        found = self.model.respond(prompts, mask, None, self.groups.response_length)
        return jnp.repeat(self.task.reward(prompts, found.tokens, found.mask), size)

    @property
    def _needed(self) -> set[str]:
        return {name for stage in self.objective.stages for name in stage.inputs}

    def teaching(self, batch: TokenBatch) -> Array:
        """[group] which groups the objective can learn from."""
        if self.wanted.teaches is None:
            return informative_groups(batch.rewards, self.groups.size)
        return self.wanted.teaches(batch)[:: self.groups.size]

    def replace_groups(self, key: Array, batch: TokenBatch) -> tuple[TokenBatch, Array]:
        """Draws further rounds until every group teaches something, or as often as `groups` allows.

        Groups that still teach nothing then stay in the batch.
        """
        num_groups = batch.rewards.shape[0] // self.groups.size

        def goes_on(carry: tuple[TokenBatch, Array]) -> Array:
            return (carry[1] < self.groups.rounds) & ~jnp.all(self.teaching(carry[0]))

        def draw_more(carry: tuple[TokenBatch, Array]) -> tuple[TokenBatch, Array]:
            held, rounds = carry
            prompt_key, draw_key = jax.random.split(jax.random.fold_in(key, rounds))
            fresh = self.draw(draw_key, *self.task.prompts(prompt_key, num_groups))
            return _fill(held, fresh, self.groups.size, self.teaching), rounds + 1

        batch, rounds = jax.lax.while_loop(goes_on, draw_more, (batch, jnp.ones((), jnp.int32)))
        return batch, rounds.astype(jnp.float32)

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
