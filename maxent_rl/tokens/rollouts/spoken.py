"""What a model said to prompts and what that earned, whether the task checks one response or replies for several turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import struct

from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.prompts.source import Posed, PromptSource
from maxent_rl.tokens.sampling import Responses
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.conversation import ConversationTask
from maxent_rl.types import Array


@struct.dataclass
class Spoken:
    """Responses with their rewards.

    Attributes:
      said: [N, T] by the model.
      there: [N, T] bool: where anybody said anything; the model read all of it.
      turns: [N, T] int32 which turn a token belongs to; a response of a task that does not reply is one turn.
      parts: [N, K] what the rewards are made of: of a source of prompts, or what a task that replies says, its turns for most.
      ended: [N] bool: whether it came to its end, or was cut.
      calls: [N] int32 turns that called a tool; None where the task does not reply.
    """

    said: Responses
    there: Array
    turns: Array
    parts: Array
    ended: Array
    calls: Array | None = None

    @property
    def rewards(self) -> Array:
        """[N]."""
        return jnp.sum(self.parts, axis=-1)


def speak(
    model: LanguageModel,
    task: TokenTask[Any],
    source: PromptSource,
    posed: Posed,
    key: Array | None,
    response_length: int,
    temperature: Array | float | None = None,
    token_temperature: Callable[[Array], Array] | None = None,
) -> Spoken:
    """Lets a model answer prompts, or talk about them.

    Args:
      model: that speaks.
      task: that checks, or replies.
      source: of the prompts, which may pay for more than the task does.
      posed: N prompts.
      key: [] random key; None for the likeliest token at each place.
      response_length: T, the most tokens of a response or conversation.
      temperature: [] or [N] in place of the model's own.
      token_temperature: factors of the tokens' own temperatures.
    """
    prompts, mask = posed.prompts, posed.prompt_mask
    if isinstance(task, ConversationTask):
        found = model.converse(task, prompts, mask, key, response_length, temperature, token_temperature)
        return Spoken(
            found.said,
            found.there,
            found.turns,
            task.reward_parts(prompts, found.turn_rewards),
            found.ended,
            found.calls,
        )
    said = model.respond(prompts, mask, key, response_length, temperature, token_temperature)
    return Spoken(
        said=said,
        there=said.mask,
        turns=jnp.zeros(said.tokens.shape, jnp.int32),
        parts=source.reward_parts(task, posed, said.tokens, said.mask),
        ended=jnp.any(said.mask & (said.tokens == TokenTask.end_token), axis=-1),
    )
