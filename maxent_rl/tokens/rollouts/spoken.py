"""What a model said to prompts and what that earned, whether the task checks one response or replies for several turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.tokens.branching import Forks
from maxent_rl.tokens.conversing import Conversations, filled
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.prompts.source import Posed, PromptSource
from maxent_rl.tokens.sampling import Responses
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.conversation import ConversationTask
from maxent_rl.types import Array

_AGAIN = 2**31 - 3  # beyond the rows, places and uses that `converse` draws with


@struct.dataclass
class Spoken:
    """Responses with their rewards.

    Attributes:
      said: [N, T] by the model.
      there: [N, T] bool: where anybody said anything; the model read all of it.
      turns: [N, T] int32 which turn a token belongs to; a response of a task that does not reply is one turn.
      parts: [N, K] what the rewards are made of: of a source of prompts, or of turns.
      turn_rewards: [N, K] what each turn earned; of a response the one that it is.
      ended: [N] bool: whether it came to its end, or was cut.
      anchors: [N, T] int32 equal where turns began in the same state; None if nobody asked.
      copies: [N, T] int32 in how many conversations of the batch each token stands.
      parent: [N] int32 which row a conversation was continued from, -1 for none; None where none could be.
      calls: [N] int32 turns that called a tool; None where the task does not reply.
    """

    said: Responses
    there: Array
    turns: Array
    parts: Array
    turn_rewards: Array
    ended: Array
    anchors: Array | None
    copies: Array
    parent: Array | None = None
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
    forks: Forks | None = None,
    anchors: bool = False,
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
      forks: when conversations are continued twice; those of a prompt stand side by side. Rooms that none is in at the end
        have one that begins at the prompt.
      anchors: whether to say which turns began in the same state.
    """
    prompts, mask = posed.prompts, posed.prompt_mask
    if isinstance(task, ConversationTask):
        found = model.converse(
            task, prompts, mask, key, response_length, temperature, token_temperature, forks, anchors
        )
        if forks is not None and key is not None:
            later = jax.random.fold_in(key, _AGAIN)

            def again(free: Array) -> Conversations:
                return model.converse(
                    task, prompts, mask & free[:, None], later, response_length, temperature, token_temperature, None, anchors
                )  # fmt: skip

            found = filled(found, again)
        return Spoken(
            said=found.said,
            there=found.there,
            turns=found.turns,
            parts=task.reward_parts(prompts, found.turn_rewards),
            turn_rewards=found.turn_rewards,
            ended=found.ended,
            anchors=found.anchors,
            copies=jnp.ones_like(found.turns) if found.copies is None else found.copies,
            parent=found.parent,
            calls=found.calls,
        )
    said = model.respond(prompts, mask, key, response_length, temperature, token_temperature)
    parts, nothing = source.reward_parts(task, posed, said.tokens, said.mask), jnp.zeros(said.tokens.shape, jnp.int32)
    return Spoken(
        said=said,
        there=said.mask,
        turns=nothing,
        parts=parts,
        turn_rewards=jnp.sum(parts, axis=-1, keepdims=True),
        ended=jnp.any(said.mask & (said.tokens == TokenTask.end_token), axis=-1),
        anchors=nothing,
        copies=jnp.ones_like(nothing),
    )
