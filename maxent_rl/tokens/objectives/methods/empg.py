"""EMPG: turns that a policy was sure of count more, and a turn that leads to a sure one is paid for it.

The score function of a softmax grows with the entropy of a decision, so that sure turns learn slowly and unsure ones make
large steps. The outcome's advantage is scaled turn by turn, by a factor that falls with the turn's entropy and has the mean 1
over all turns of the batch, and a small bonus goes to the turn before one of low entropy.

Source: Harnessing Uncertainty: Entropy-Modulated Policy Gradients for Long-Horizon LLM Agents (arXiv 2509.09265), in the form
of the authors' published pseudocode. Which `clarity_bonus` made its tables is not confirmed: 0.1 and 0.05 are both seen.
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
from maxent_rl.tokens.turns import Turns
from maxent_rl.types import PyTree

_EPSILON = 1e-8
_SOURCE = "Harnessing Uncertainty: Entropy-Modulated Policy Gradients for Long-Horizon LLM Agents, arXiv 2509.09265"


@struct.dataclass
class EntropyModulation(Credit):
    """Scales the advantage of each turn by how sure the policy was of it, and adds what the next turn's sureness is worth.

    All of it is constant to the gradient: entropies are those of the policy that drew the responses. A group of equal rewards
    has no advantage, but still this bonus: leave such groups out first (dynamic sampling) if that is not wanted. A response
    that could not be scored has neither, and no part in the means.
    """

    needs: ClassVar[tuple[str, ...]] = ("entropy_old", "turns")
    entropy_scale: Weight = 1.0
    """How fast the factor falls with a turn's entropy, of which the least of the batch is 0 and the largest 1; 0 for none."""
    clarity_scale: Weight = 1.0
    """How fast the bonus falls with the next turn's."""
    clarity_bonus: Weight = 0.1
    """Weight of the bonus, in advantage."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N, T]."""
        assert batch.entropy_old is not None and batch.turns is not None
        turns = Turns.of(batch.turns, batch.mask & batch.scored[:, None])
        advantages = turns.mean(token_advantages(batch))
        unsure = turns.scaled(turns.mean(batch.entropy_old), _EPSILON)
        factor = jnp.exp(-self.entropy_scale * unsure)
        factor = factor / (turns.average(factor) + _EPSILON)
        bonus = turns.next(jnp.exp(-self.clarity_scale * unsure))
        modulated = advantages * factor + self.clarity_bonus * bonus
        modulated = jnp.where(turns.there, modulated - turns.average(modulated), 0.0)
        return state, dataclasses.replace(batch, advantages=turns.spread(modulated))


PRESETS: dict[str, Preset] = {
    "empg": Preset(
        "grpo whose advantages are scaled by how sure each turn was, with a bonus for turns that lead to sure ones",
        _SOURCE,
        (GroupAdvantage(), EntropyModulation(), Clipped(), Aggregate()),
    ),
}
