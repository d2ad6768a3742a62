"""How well a language model answers prompts that it has not learned from."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from maxent_rl import losses
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.prompts.source import Posed, TaskPrompts
from maxent_rl.tokens.rollouts.spoken import speak
from maxent_rl.tokens.tasks import count_distinct
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.types import Array


def examine(
    model: LanguageModel, task: TokenTask[Any], key: Array, prompts: int, response_length: int, samples: int
) -> dict[str, Array]:
    """Answers held-out prompts: once by the likeliest tokens, and several times at random.

    Args:
      model: that answers.
      task: that poses prompts and checks.
      key: [] random key; equal keys pose equal prompts.
      prompts: how many.
      response_length: T, the most tokens of a response.
      samples: random responses to each prompt, the k of pass@k.

    Returns:
      "reward" and "length" [prompt] of the likeliest responses; "sampled_reward" [prompt, sample]; "entropy",
      "sampled_length" [] over the samples' tokens; "distinct_answers" [] different right answers per prompt.
    """
    prompt_key, sample_key = jax.random.split(key)
    posed, prompt_mask = task.prompts(prompt_key, prompts, held_out=True)
    once = Posed(posed, prompt_mask)
    best = speak(model, task, TaskPrompts(), once, None, response_length)
    found = speak(model, task, TaskPrompts(), once.repeated(samples), sample_key, response_length)
    drawn, reward = found.said, found.rewards
    return {
        "reward": best.rewards,
        "length": jnp.sum(best.said.mask, axis=-1),
        "sampled_reward": reward.reshape(prompts, samples),
        "entropy": losses.masked_mean(drawn.entropy, drawn.mask),
        "sampled_length": jnp.mean(jnp.sum(drawn.mask, axis=-1)),
        "distinct_answers": jnp.mean(count_distinct(drawn.tokens, drawn.mask, reward, samples)),
    }
