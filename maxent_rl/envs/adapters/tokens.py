"""Token tasks as environments of one step: `tokens/countdown` shows a prompt and pays for the whole response.

A contextual bandit whose action is a sequence of tokens. It is there to evaluate a policy like any other; token policies are
trained on the task itself, which gives groups of responses to one prompt.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from maxent_rl.errors import unknown_name
from maxent_rl.tokens.tasks import TASKS, TokenTask, make_task, response_mask
from maxent_rl.types import Array, Spec


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


def make_tokens(name: str) -> TokenEnv:
    """Makes an environment by the name after `tokens/`, with held-out prompts.

    Raises:
      UnknownNameError: naming the nearest right ones.
    """
    if name not in TASKS:
        raise unknown_name("environment", f"tokens/{name}", [f"tokens/{known}" for known in TASKS])
    return TokenEnv(make_task(name))
