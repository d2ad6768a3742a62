"""Token tasks as environments of one step: `tokens/countdown` shows a prompt and pays for the whole response.

A contextual bandit whose action is a sequence of tokens. It is there to evaluate a policy like any other; token policies are
trained on the task itself, which gives groups of responses to one prompt.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.errors import unknown_name
from maxent_rl.tokens.tasks import PAD_TOKEN, TASKS, ConversationTask, TokenTask, join, make_task, response_mask
from maxent_rl.types import Array, PyTree, Spec


@dataclasses.dataclass(frozen=True)
class TokenEnv:
    """One prompt, one response, one reward: 1 for a right answer and 0 for a wrong one.

    Attributes:
      task: where prompts come from and who checks responses.
      held_out: whether prompts are those that training never poses, as an evaluation wants them.
    """

    task: TokenTask[Any]
    held_out: bool = True

    @property
    def spec(self) -> Spec:
        """Observations are the tokens of a prompt, as floats; actions those of a response."""
        return Spec(
            observation_shape=(self.task.prompt_length,),
            action_shape=(self.task.response_length,),
            horizon=1,
            num_actions=self.task.vocabulary_size,
        )

    def reset(self, key: Array) -> tuple[Array, Array]:
        """Draws a prompt, which is the state."""
        prompts, _ = self.task.prompts(key, 1, self.held_out)
        return prompts[0], prompts[0].astype(jnp.float32)

    def step(self, state: Array, action: Array) -> tuple[Array, Array, Array, Array]:
        """Checks the response [T] up to its first end token, whatever follows that, and ends the episode."""
        reward = self.task.reward(state[None], action[None], response_mask(action)[None])[0]
        return state, state.astype(jnp.float32), reward, jnp.ones((), bool)


@struct.dataclass
class Talk:
    """A conversation so far.

    Attributes:
      text: [P + T] int32 the prompt and all that was said, padded on both sides.
      length: [] int32 where the next token stands.
      environment: the state of who replies.
      turn: [] int32 from 0.
    """

    text: Array
    length: Array
    environment: PyTree
    turn: Array


@dataclasses.dataclass(frozen=True)
class ConversationEnv(TokenEnv):
    """A conversation: each step is one turn [S], and what is seen is the prompt with all that was said since, [P + T]."""

    @property
    def spec(self) -> Spec:
        """As many steps as the task has turns."""
        task = self._talks
        return Spec(
            observation_shape=(task.prompt_length + task.response_length,),
            action_shape=(task.turn_length,),
            horizon=task.max_turns,
            num_actions=task.vocabulary_size,
        )

    def reset(self, key: Array) -> tuple[Any, Array]:
        """Draws a prompt, and begins."""
        task, (prompt_key, begin_key) = self._talks, jax.random.split(key)
        prompts, _ = task.prompts(prompt_key, 1, self.held_out)
        text = jnp.pad(prompts[0], (0, task.response_length))
        environment = task.begin(task.read(prompts[0]), begin_key)
        state = Talk(text, jnp.asarray(task.prompt_length), environment, jnp.zeros((), jnp.int32))
        return state, text.astype(jnp.float32)

    def step(self, state: Any, action: Array) -> tuple[Any, Array, Array, Array]:
        """Says the turn up to its first end token, and hears the reply."""
        task = self._talks
        said = response_mask(action)
        line = jnp.where(said, action, PAD_TOKEN).astype(jnp.int32)
        heard = task.reply(state.environment, line, jnp.sum(said))
        reply_there = jnp.arange(task.reply_length) < heard.length
        both = join([(line, said), (heard.tokens, reply_there)])
        room = jnp.pad(state.text, (0, both.shape[0]))
        text = jax.lax.dynamic_update_slice(room, both, (state.length,))[: state.text.shape[0]]
        length = state.length + jnp.sum(said) + jnp.sum(reply_there)
        talk = Talk(text, length, heard.state, state.turn + 1)
        ended = heard.ended | (talk.turn >= task.max_turns)
        return talk, text.astype(jnp.float32), heard.reward, ended

    @property
    def _talks(self) -> ConversationTask[Any]:
        assert isinstance(self.task, ConversationTask)
        return self.task


def make_tokens(name: str) -> TokenEnv:
    """Makes an environment by the name after `tokens/`, with held-out prompts.

    Raises:
      UnknownNameError: naming the nearest right ones.
    """
    if name not in TASKS:
        raise unknown_name("environment", f"tokens/{name}", [f"tokens/{known}" for known in TASKS])
    task = make_task(name)
    return ConversationEnv(task) if isinstance(task, ConversationTask) else TokenEnv(task)
