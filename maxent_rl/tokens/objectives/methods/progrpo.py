"""ProGRPO: confident answers are credited less than unlikely ones, whether they are right or wrong.

To the advantage of each response of a prompt with a right answer is added `weight * (c_q - c_o)`: c_o how confident the
policy was of the response, by its least likely tokens, c_q how confident it is of the prompt.

Source: Back to Basics: Revisiting Exploration in Reinforcement Learning for LLM Reasoning via Generative Probabilities
(arXiv 2602.05281), as public reviews quote it; no code was found. Not confirmed: how c_q averages over a prompt, the
weight, that wrong responses have the term too, that groups without a wrong one have it, the deviation's epsilon and
correction, and that c_o is of the policy that drew the response.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl.settings import Finite, Fraction, Weight, static
from maxent_rl.tokens.batch import TokenBatch, token_advantages
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.credit import Credit
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree


@struct.dataclass
class AdvantageReweighting(Credit):
    """Adds to advantages how much more confident the policy is of the prompt than of the response (ARM).

    What is added is not centred. Prompts alike for all responses of a group, it ranks those of equal reward by their
    confidence, and less than the weight is added or taken.
    """

    arm_weight: Weight = 0.3
    """alpha; no value was found, this one is the library's: a sign does not change in groups of eight and fewer."""
    arm_low_share: Fraction = 0.2
    """Share of the tokens, the least likely ones, that confidence is measured by; at least one token."""
    arm_prompt: Literal["all", "low", "none"] = static("all")
    """How the prompt's confidence is measured: by all its tokens, by that share of them, or not at all (0)."""
    arm_scope: Literal["all", "correct"] = static("all")
    """Which responses of a prompt with a right answer have the term."""
    arm_all_correct: bool = static(True)
    """Whether groups in which all are right have it, as the quoted equation says."""
    arm_right_above: Finite = 0.0
    """A response is right whose reward is larger than this."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The prompt's log-probabilities, unless they do not count."""
        return () if self.arm_prompt == "none" else ("logp_prompt",)

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Adds to the advantages [N, T]."""
        groups = Grouping.of(batch)
        right = groups.valid & (batch.outcomes > self.arm_right_above)
        number = groups.total(right)
        active = groups.valid & (number > 0)
        if not self.arm_all_correct:
            active = active & (number < groups.size)
        if self.arm_scope == "correct":
            active = active & right
        added = self.arm_weight * (self.prompt_confidence(batch) - self.confidence(batch))
        advantages = token_advantages(batch) + jnp.where(active, added, 0.0)[:, None]
        return state, dataclasses.replace(batch, advantages=jnp.where(batch.mask, advantages, 0.0))

    def confidence(self, batch: TokenBatch) -> Array:
        """c_o: [N] the geometric mean of the probabilities of the least likely tokens; 1 without tokens."""
        return lowest_confidence(batch.logp_old, batch.mask, self.arm_low_share)

    def prompt_confidence(self, batch: TokenBatch) -> Array:
        """c_q: [N] the same of the prompt; 1 where no token of it is scored."""
        if self.arm_prompt == "none":
            return jnp.zeros(batch.mask.shape[0])
        assert batch.logp_prompt is not None
        known = jnp.isfinite(batch.logp_prompt)
        return lowest_confidence(batch.logp_prompt, known, self.arm_low_share if self.arm_prompt == "low" else 1.0)


def lowest_confidence(logp: Array, mask: Array, share: Fraction) -> Array:
    """The geometric mean probability of the least likely tokens of each row.

    Args:
      logp: [N, T] nats.
      mask: [N, T] the tokens.
      share: [] of the tokens that count, rounded up, at least one.

    Returns:
      [N], 1 where there is no token.
    """
    length = jnp.sum(mask, axis=-1, keepdims=True)
    # A product that single precision rounds to just above a whole number counts as that number.
    count = jnp.maximum(jnp.ceil(jnp.asarray(share, jnp.float32) * length * (1.0 - 5e-7)), 1)
    ordered = jnp.sort(jnp.where(mask, logp, jnp.inf), axis=-1)
    chosen = jnp.arange(logp.shape[1]) < jnp.minimum(count, length)
    return jnp.exp(jnp.sum(jnp.where(chosen, ordered, 0.0), axis=-1) / jnp.maximum(count[:, 0], 1))


PRESETS: dict[str, Preset] = {
    "progrpo": Preset(
        "confident answers are credited less than unlikely ones",
        "Back to Basics: Revisiting Exploration via Generative Probabilities, arXiv 2602.05281",
        (GroupAdvantage(), AdvantageReweighting(), Clipped(clip_low=0.2, clip_high=0.28), Aggregate()),
    ),
}
