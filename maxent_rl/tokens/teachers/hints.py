"""What a teacher is told before the prompt: a right answer, of another response of the group or of the checker.

The same model with another context is a teacher without weights of its own; it can use a hint if its warm start had some.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import jax.numpy as jnp
from jax.typing import ArrayLike

from maxent_rl.tokens.batch import Prompted, TokenBatch
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.types import Array


def with_siblings(batch: TokenBatch, threshold: ArrayLike) -> TokenBatch:
    """Tells each row the first other response of its group that is right, tokens up to the end token.

    Args:
      batch: with `tokens`, rewards, and its prompts in `context` (`Prompted`), in groups of `group_size`.
      threshold: [] the least reward of a right response.

    Returns:
      The batch with the hints in its context, and with `taught`: which rows have one.

    Source: SDPO (arXiv 2601.20802), released code: the first successful one in row order, never the row itself.
    """
    context, size = cast(Prompted, batch.context), batch.group_size
    right = (batch.scored & (jnp.asarray(batch.rewards) >= threshold)).reshape(-1, size)
    first = jnp.argmax(right, axis=-1, keepdims=True)
    second = jnp.argmax(right & (jnp.arange(size) != first), axis=-1, keepdims=True)
    chosen = jnp.where(jnp.arange(size) == first, second, first)
    taught = (jnp.sum(right, axis=-1, keepdims=True) > right).ravel()
    rows = (jnp.arange(len(right))[:, None] * size + chosen).ravel()
    mask = context.response_mask[rows] & taught[:, None]
    hinted = dataclasses.replace(context, hints=cast(Array, batch.tokens)[rows], hint_mask=mask)
    return dataclasses.replace(batch, context=hinted, taught=taught)


def with_answers(batch: TokenBatch, task: TokenTask[Any], key: Array) -> TokenBatch:
    """Tells each row a right answer to its problem, all right ones being equally likely.

    Args:
      batch: with its prompts in `context` (`Prompted`).
      task: that knows right answers.
      key: [] random key.

    Returns:
      The batch with the hints in its context, and with `taught`: which rows have one.
    """
    context = cast(Prompted, batch.context)
    answers, mask = task.demonstrations(key, context.checked)
    hinted = dataclasses.replace(context, hints=answers, hint_mask=mask)
    return dataclasses.replace(batch, context=hinted, taught=jnp.any(mask, axis=-1))
