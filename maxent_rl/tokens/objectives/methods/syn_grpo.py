"""Syn-GRPO-style: GRPO in which tokens that are no part of the answer have an advantage of their own.

What stands apart from the answer (`TokenBatch.span`: a description of a further problem) is credited with
`span_weight * span_advantages` alone, and the answer with its group's: otherwise a description would be reinforced because the
answer before it happened to be right. Where `span_advantages` come from says `tokens.prompts.synthesis`.

Source: Syn-GRPO (arXiv 2511.19343). Its equations could not be confirmed and no code was found: a proposed form.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from flax import struct

from maxent_rl.settings import Weight
from maxent_rl.tokens.batch import TokenBatch, token_advantages
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.credit import Credit
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree


@struct.dataclass
class SpanAdvantage(Credit):
    """Gives the tokens of a span the advantage of the span in place of the answer's."""

    needs: ClassVar[tuple[str, ...]] = ("span", "span_advantages")
    span_weight: Weight = 0.5
    """lambda, of the spans' advantages; 0 leaves these tokens without a gradient."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N, T]."""
        assert batch.span is not None and batch.span_advantages is not None
        own = jnp.asarray(batch.span_advantages, jnp.float32)
        own = self.span_weight * jnp.where(batch.scored & jnp.isfinite(own), own, 0.0)
        found = jnp.where(jnp.asarray(batch.span, bool), own[:, None], token_advantages(batch))
        return state, dataclasses.replace(batch, advantages=jnp.where(batch.mask, found, 0.0))


PRESETS: dict[str, Preset] = {
    "syn_grpo_style": Preset(
        "descriptions of further problems are credited apart from answers",
        "a proposed form of Syn-GRPO, arXiv 2511.19343",
        (GroupAdvantage(), SpanAdvantage(), Clipped(), Aggregate()),
    ),
}
