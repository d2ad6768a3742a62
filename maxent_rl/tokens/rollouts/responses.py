"""Groups of responses to a task's prompts, with rewards and all that an objective asks of the policy that drew them."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp

from maxent_rl import losses
from maxent_rl.tokens.batch import Prompted, TokenBatch
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.objectives import Objective, Statistic, informative_groups
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.types import Array, Metrics, PyTree


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

    Returns:
      (batch, metrics): all metrics but "rollout/mixed_groups" are those of the first round.
    """
    # `fold_in` and `split` of one key give the same keys, so each use has one of its own.
    prompt_key, draw_key, more_key, side_key = jax.random.split(key, 4)
    num_groups = count // groups.size
    prompts, prompt_mask = task.prompts(prompt_key, num_groups)
    batch = _draw(model, task, draw_key, groups, prompts, prompt_mask)
    # Of the first round, which is drawn without a choice: groups that are kept for what they teach say less of the policy.
    metrics = {
        "episode/return": jnp.mean(batch.rewards),
        "episode/length": jnp.mean(jnp.sum(batch.mask, axis=-1)),
        "actor/entropy": losses.masked_mean(batch.entropy_old, batch.mask),  # type: ignore[arg-type]
        "rollout/truncated": jnp.mean(batch.truncated.astype(jnp.float32)),  # type: ignore[union-attr]
    }
    rounds = jnp.ones(())
    if groups.rounds > 1:
        batch, rounds = _replace_uniform(model, task, more_key, groups, batch)
    mixed = informative_groups(batch.rewards, groups.size)
    metrics |= {"rollout/mixed_groups": jnp.mean(mixed.astype(jnp.float32)), "rollout/rounds": rounds}
    asked = objective.statistics(state)
    batch = _complete(model, reference, asked, batch)
    wanted = objective.side(state)
    if wanted is not None:
        few = wanted.prompts(num_groups)
        context = cast(Prompted, batch.context)
        prompts, prompt_mask = (rows[:: groups.size][:few] for rows in (context.prompts, context.prompt_mask))
        side = _draw(model, task, side_key, groups, prompts, prompt_mask, wanted.temperature)
        batch = dataclasses.replace(batch, side=_complete(model, reference, asked, side))
    return batch, metrics


def _draw(
    model: LanguageModel,
    task: TokenTask[Any],
    key: Array,
    groups: Groups,
    prompts: Array,
    prompt_mask: Array,
    temperature: Array | None = None,
) -> TokenBatch:
    """Draws and checks a group of responses to each prompt, at the model's temperature or at so many times that.

    Log-probabilities and entropies are always those of the model's own temperature.
    """
    prompts, prompt_mask = (jnp.repeat(rows, groups.size, axis=0) for rows in (prompts, prompt_mask))
    drawn_at = None if temperature is None else temperature * model.temperature
    found = model.respond(prompts, prompt_mask, key, groups.response_length, drawn_at)
    context = Prompted(prompts, prompt_mask, found.mask)
    logp, entropy = found.logp, found.entropy
    if temperature is not None:
        own = model.statistics(context, found.tokens)
        logp, entropy = own.logp, own.entropy
    ended = jnp.any(found.mask & (found.tokens == TokenTask.end_token), axis=-1)
    return TokenBatch(
        logp_old=logp,
        mask=found.mask,
        rewards=task.reward(prompts, found.tokens, found.mask),
        group_size=groups.size,
        tokens=found.tokens,
        entropy_old=entropy,
        truncated=~ended,
        context=context,
    )


def _replace_uniform(
    model: LanguageModel, task: TokenTask[Any], key: Array, groups: Groups, batch: TokenBatch
) -> tuple[TokenBatch, Array]:
    """Draws further rounds until every group has rewards that differ, or as often as `groups` allows.

    Groups that are still uniform then stay in the batch, where they teach nothing.
    """
    size, num_groups = groups.size, batch.rewards.shape[0] // groups.size

    def goes_on(carry: tuple[TokenBatch, Array]) -> Array:
        kept = informative_groups(carry[0].rewards, size)
        return (carry[1] < groups.rounds) & ~jnp.all(kept)

    def draw_more(carry: tuple[TokenBatch, Array]) -> tuple[TokenBatch, Array]:
        held, rounds = carry
        prompt_key, draw_key = jax.random.split(jax.random.fold_in(key, rounds))
        fresh = _draw(model, task, draw_key, groups, *task.prompts(prompt_key, num_groups))
        return _fill(held, fresh, size), rounds + 1

    batch, rounds = jax.lax.while_loop(goes_on, draw_more, (batch, jnp.ones((), jnp.int32)))
    return batch, rounds.astype(jnp.float32)


def _fill(held: TokenBatch, fresh: TokenBatch, size: int) -> TokenBatch:
    """Puts fresh groups whose rewards differ in the place of held groups whose rewards do not."""
    is_free = ~informative_groups(held.rewards, size)
    is_good = informative_groups(fresh.rewards, size)
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


def _complete(
    model: LanguageModel, reference: LanguageModel | None, asked: dict[str, Statistic], batch: TokenBatch
) -> TokenBatch:
    """Adds the reference's log-probabilities and the statistics that the objective asks for."""
    context, tokens = cast(Prompted, batch.context), cast(Array, batch.tokens)
    if asked:
        batch = dataclasses.replace(batch, statistics=model.statistics(context, tokens, asked).extra)
    if reference is not None:
        batch = dataclasses.replace(batch, logp_ref=reference.statistics(context, tokens).logp)
    return batch
