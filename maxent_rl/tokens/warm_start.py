"""The loss of a warm start: right answers made likelier, all their tokens or the hardest, to plain prompts or hinted ones.

Source: Entropy-SFT is that of Light-IF (arXiv 2508.03178).
"""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from maxent_rl import losses
from maxent_rl.settings import Weight
from maxent_rl.tokens.batch import Prompted
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.objectives.methods.light_if import hardest_tokens
from maxent_rl.types import Array

WarmStartObjective: TypeAlias = Literal["likelihood", "entropy-sft"]


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """How a policy learns right answers.

    Attributes:
      objective: "likelihood" of all tokens, or "entropy-sft": of those alone that are hard for another reason than that the
        policy is uncertain.
      token_share: of entropy-sft, the share of the tokens of a step that are learned.
      entropy_weight: of entropy-sft, how much of its entropy is taken off a token's loss before these are ranked.
      prompts: whether prompts are learned, too.
    """

    objective: WarmStartObjective = "likelihood"
    token_share: float = 0.8
    entropy_weight: Weight | Array = 0.8
    prompts: bool = False

    def loss(self, model: LanguageModel, answers: Prompted, tokens: Array) -> tuple[Array, Array]:
        """What is minimised, and what is shown.

        Args:
          model: that learns.
          answers: the prompts, with hints or without, and where the answers have tokens.
          tokens: [N, T] int32 the answers.

        Returns:
          (loss [], mean loss of all tokens [] that were answered without a hint, of all answers if each had one), in nats per
          token; that of prompts is added to both, where they are learned.
        """
        found = model.statistics(answers.hinted(), tokens)
        there, loss = answers.own, -found.logp
        chosen = there
        if self.objective == "entropy-sft":
            chosen = hardest_tokens(loss, found.entropy, there, self.token_share, self.entropy_weight)
        learned = losses.masked_mean(loss, chosen)
        shown = learned if chosen is there and answers.hint_mask is None else losses.masked_mean(loss, _plain(answers))
        if self.prompts:
            of_prompts = model.prompt_log_probs(answers.prompts, answers.prompt_mask)
            known = jnp.isfinite(of_prompts)
            beside = losses.masked_mean(-jnp.where(known, of_prompts, 0.0), known)
            learned, shown = learned + beside, shown + beside
        return learned, shown


def hinted(key: Array, answers: Prompted, tokens: Array, share: Weight | Array) -> Prompted:
    """Puts before some prompts the answer that is to be given, so that the policy learns to use what stands there.

    Args:
      key: [] random key.
      answers: prompts and where the answers have tokens.
      tokens: [N, T] int32 the answers, which end with an end token: it parts the hint from the prompt.
      share: [] of the rows that have a hint, each by chance.
    """
    told = jax.random.bernoulli(key, share, tokens.shape[:1])
    return dataclasses.replace(answers, hints=tokens, hint_mask=answers.response_mask & told[:, None])


def _plain(answers: Prompted) -> Array:
    """[N, T] the tokens of answers without a hint; of all, where each has one."""
    there = answers.own
    if answers.hint_mask is None:
        return there
    plain = there & ~jnp.any(answers.hint_mask, axis=-1, keepdims=True)
    return jnp.where(jnp.any(plain), plain, there)
