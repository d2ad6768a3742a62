"""Agentic AEPO: uncertain tokens count more, and a token beyond the upper clip keeps a bounded gradient.

Not to be confused with Arbitrary Entropy Policy Optimization (`aepo_arbitrary`). The other half of the method, which branches
a rollout takes, is asked for by `Forking` (`fork_conversations=false` for the loss alone) and done by
`maxent_rl.tokens.branching`. The published script begins half of a group at the prompt, whatever the entropies are; the
split by entropy, which the paper describes, is `fork_sensitivity=0.5`.

Source: Agentic Entropy-Balanced Policy Optimization (arXiv 2510.14545), in the form of public copies of the released code.
Whether the published run had the entropy factor on, and which clip widths, is not confirmed; the widths here are that code's
defaults.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.settings import Weight
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.forking import Forking
from maxent_rl.tokens.objectives.shapes import Shape
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Surrogate, bounds
from maxent_rl.types import PyTree

_TINY = 1e-30


@struct.dataclass
class EntropyAdvantage(Shape):
    """Multiplies the advantage of each token by `1 + weight * h`, h its entropy in deviations from the mean over the step.

    The mean of the factor over all tokens of a step is 1; it is not bounded, and negative far below the mean.
    """

    needs: ClassVar[tuple[str, ...]] = ("entropy",)
    entropy_advantage: Weight = 0.2
    """Weight of a token's standardised entropy in its advantage."""

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Finds the standardised entropies [N, T] of the policy that learns."""
        assert work.outputs.entropy is not None
        return state, work.replace(found=standardised(work.outputs.entropy, work.mask))

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the advantages [N, T]."""
        assert work.found is not None
        return state, work.replace(advantages=work.advantages * (1.0 + self.entropy_advantage * work.found))


def standardised(values: Array, mask: Array) -> Array:
    """[N, T] how many deviations each value lies above the mean over the tokens that count, 0 for others; no gradient.

    The deviation is that of a sample (ddof 1); where all are equal, or there is one alone, all are 0.
    """
    apart = losses.masked_deviation(jax.lax.stop_gradient(values), mask)
    deviation = jnp.sqrt(jnp.sum(apart**2) / jnp.maximum(jnp.sum(mask) - 1, 1))
    return apart / jnp.where(deviation > 0, deviation, 1.0)


@struct.dataclass
class EntropyBalancedClip(Surrogate):
    """PPO's clipped surrogate whose upper bound has a gradient: beyond it a rising token counts as at the bound, and not 0."""

    balanced_clip_low: Weight = 0.2
    """Below `1 - balanced_clip_low` a falling probability is clipped, and has no gradient."""
    balanced_clip_high: Weight = 0.2
    """Above `1 + balanced_clip_high` the gradient of a rising one is that at the bound."""
    balanced_dual_clip: Weight = 3.0
    """Bound of the ratio where the advantage is negative."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T] and where it was bounded."""
        low, high = bounds(work, self.balanced_clip_low, self.balanced_clip_high)
        own = work.ratio / jax.lax.stop_gradient(jnp.maximum(work.ratio, _TINY))
        bounded = (1.0 + jnp.asarray(high)) * own - 1.0  # of the value `high`, with a gradient
        loss = losses.clipped_surrogate(work.ratio, work.advantages, low, bounded, self.balanced_dual_clip)
        clipped = losses.clipped_away(work.ratio, work.advantages, low, high)
        return state, work.replace(loss=loss, clipped=clipped)


PRESETS: dict[str, Preset] = {
    "aepo_agentic": Preset(
        "grpo whose conversations branch where the model was unsure, with a dual clip whose upper bound keeps its gradient, "
        "and advantages that grow with a token's entropy",
        "Agentic Entropy-Balanced Policy Optimization, arXiv 2510.14545",
        (GroupAdvantage(), Forking(), EntropyAdvantage(), EntropyBalancedClip(), Aggregate()),
    ),
}
