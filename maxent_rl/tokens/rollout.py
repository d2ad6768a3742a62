"""Groups of responses to a task's prompts, with rewards and all that an objective asks of the policy that drew them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives import Objective, informative_groups
from maxent_rl.tokens.tasks import count_distinct
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.types import Array, Metrics, PyTree

if TYPE_CHECKING:
    from maxent_rl.tokens.agent import TokenAgent, TokenState


@struct.dataclass
class Prompted:
    """What stands before and beside the responses of a batch, row by row.

    Attributes:
      prompts: [N, P] int32, padded on the left.
      prompt_mask: [N, P] bool.
      response_mask: [N, T] bool: where a response has tokens, whatever an objective leaves out of its loss.
    """

    prompts: Array
    prompt_mask: Array
    response_mask: Array


def collect(
    agent: TokenAgent, objective: Objective, state: TokenState, task: TokenTask[Any], key: Array, count: int
) -> tuple[TokenBatch, Metrics]:
    """Draws the responses of one iteration.

    Args:
      agent: that answers.
      objective: that will learn from them; it says what statistics, reference and side responses it needs.
      state: of the agent.
      task: that poses prompts and checks.
      key: [] random key.
      count: N, responses; whole groups.

    Returns:
      (batch, metrics): all metrics but "rollout/mixed_groups" are those of the first round.
    """
    # `fold_in` and `split` of one key give the same keys, so each use has one of its own.
    prompt_key, draw_key, more_key, side_key = jax.random.split(key, 4)
    num_groups = count // agent.group_size
    prompts, prompt_mask = task.prompts(prompt_key, num_groups)
    batch = _draw(agent, state, task, draw_key, prompts, prompt_mask)
    # Of the first round, which is drawn without a choice: groups that are kept for what they teach say less of the policy.
    metrics = {
        "episode/return": jnp.mean(batch.rewards),
        "episode/length": jnp.mean(jnp.sum(batch.mask, axis=-1)),
        "actor/entropy": losses.masked_mean(batch.entropy_old, batch.mask),  # type: ignore[arg-type]
        "rollout/truncated": jnp.mean(batch.truncated.astype(jnp.float32)),  # type: ignore[union-attr]
    }
    rounds = jnp.ones(())
    if agent.sampling_rounds > 1:
        batch, rounds = _replace_uniform(agent, state, task, more_key, batch)
    mixed = informative_groups(batch.rewards, agent.group_size)
    metrics |= {"rollout/mixed_groups": jnp.mean(mixed.astype(jnp.float32)), "rollout/rounds": rounds}
    batch = _complete(agent, objective, state, batch)
    wanted = objective.side(state.objective)
    if wanted is not None:
        few = wanted.prompts(num_groups)
        context = cast(Prompted, batch.context)
        prompts, prompt_mask = (rows[:: agent.group_size][:few] for rows in (context.prompts, context.prompt_mask))
        side = _draw(agent, state, task, side_key, prompts, prompt_mask, wanted.temperature)
        batch = dataclasses.replace(batch, side=_complete(agent, objective, state, side))
    return batch, metrics


def _draw(
    agent: TokenAgent,
    state: TokenState,
    task: TokenTask[Any],
    key: Array,
    prompts: Array,
    prompt_mask: Array,
    temperature: Array | None = None,
) -> TokenBatch:
    """Draws and checks `group_size` responses to each prompt; all of it at the agent's temperature unless another is given.

    Log-probabilities and entropies are always those of the agent's own temperature.
    """
    prompts, prompt_mask = (jnp.repeat(rows, agent.group_size, axis=0) for rows in (prompts, prompt_mask))
    drawn_at = None if temperature is None else temperature * agent.temperature
    found = agent.respond(state.params, prompts, prompt_mask, key, state.response_length, drawn_at)
    context = Prompted(prompts, prompt_mask, found.mask)
    logp, entropy = found.logp, found.entropy
    if temperature is not None:
        own = agent.statistics(state.params, context, found.tokens)
        logp, entropy = own.logp, own.entropy
    ended = jnp.any(found.mask & (found.tokens == TokenTask.end_token), axis=-1)
    return TokenBatch(
        logp_old=logp,
        mask=found.mask,
        rewards=task.reward(prompts, found.tokens, found.mask),
        group_size=agent.group_size,
        tokens=found.tokens,
        entropy_old=entropy,
        truncated=~ended,
        context=context,
    )


def _replace_uniform(
    agent: TokenAgent, state: TokenState, task: TokenTask[Any], key: Array, batch: TokenBatch
) -> tuple[TokenBatch, Array]:
    """Draws further rounds until every group has rewards that differ, or as often as the agent allows.

    Groups that are still uniform then stay in the batch, where they teach nothing.
    """
    size, num_groups = agent.group_size, batch.rewards.shape[0] // agent.group_size

    def goes_on(carry: tuple[TokenBatch, Array]) -> Array:
        kept = informative_groups(carry[0].rewards, size)
        return (carry[1] < agent.sampling_rounds) & ~jnp.all(kept)

    def draw_more(carry: tuple[TokenBatch, Array]) -> tuple[TokenBatch, Array]:
        held, rounds = carry
        prompt_key, draw_key = jax.random.split(jax.random.fold_in(key, rounds))
        fresh = _draw(agent, state, task, draw_key, *task.prompts(prompt_key, num_groups))
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


def _complete(agent: TokenAgent, objective: Objective, state: TokenState, batch: TokenBatch) -> TokenBatch:
    """Adds the reference's log-probabilities and the statistics that the objective asks for."""
    context, tokens = cast(Prompted, batch.context), cast(Array, batch.tokens)
    wanted = objective.statistics(state.objective)
    if wanted:
        found = agent.statistics(state.params, context, tokens, wanted)
        batch = dataclasses.replace(batch, statistics=found.extra)
    if state.reference is not None:
        logp_ref = agent.statistics(state.reference, context, tokens).logp
        batch = dataclasses.replace(batch, logp_ref=logp_ref)
    return batch


def examine(
    agent: TokenAgent, params: PyTree, task: TokenTask[Any], key: Array, prompts: int, response_length: int
) -> dict[str, Array]:
    """Answers held-out prompts: once by the likeliest tokens, and `eval_samples` times at random.

    Args:
      agent: that answers.
      params: its transformer's.
      task: that poses prompts and checks.
      key: [] random key; equal keys pose equal prompts.
      prompts: how many.
      response_length: T.

    Returns:
      "reward" and "length" [prompt] of the likeliest responses; "sampled_reward" [prompt, sample]; "entropy",
      "sampled_length" [] over the samples' tokens; "distinct_answers" [] different right answers per prompt.
    """
    prompt_key, sample_key = jax.random.split(key)
    posed, prompt_mask = task.prompts(prompt_key, prompts, held_out=True)
    best = agent.respond(params, posed, prompt_mask, None, response_length)
    often, often_mask = (jnp.repeat(rows, agent.eval_samples, axis=0) for rows in (posed, prompt_mask))
    drawn = agent.respond(params, often, often_mask, sample_key, response_length)
    reward = task.reward(often, drawn.tokens, drawn.mask)
    return {
        "reward": task.reward(posed, best.tokens, best.mask),
        "length": jnp.sum(best.mask, axis=-1),
        "sampled_reward": reward.reshape(prompts, agent.eval_samples),
        "entropy": losses.masked_mean(drawn.entropy, drawn.mask),
        "sampled_length": jnp.mean(jnp.sum(drawn.mask, axis=-1)),
        "distinct_answers": jnp.mean(count_distinct(drawn.tokens, drawn.mask, reward, agent.eval_samples)),
    }
