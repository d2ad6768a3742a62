"""The clipped ratio is a weight, so that no token loses its gradient.

Source: MiniMax-M1 (arXiv 2506.13585).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.settings import Positive, Weight
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Surrogate
from maxent_rl.types import PyTree


@struct.dataclass
class ClippedWeight(Surrogate):
    """CISPO: `-sg(w) A log pi` with the clipped ratio as weight, so that every token keeps its gradient."""

    ratio_low: Weight = 0.0
    """The weight is at least this."""
    ratio_high: Positive = 5.0
    """The weight is at most this; verl's form is 0.8 to 1.2, TRL's has no lower bound."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T] and where the weight was clipped."""
        low = self.ratio_low if work.clip_low is None else 1.0 - work.clip_low
        high = self.ratio_high if work.clip_high is None else 1.0 + work.clip_high
        weight = jax.lax.stop_gradient(jnp.clip(work.ratio, low, high))
        clipped = (work.ratio > high).astype(jnp.int32) - (work.ratio < low)
        return state, work.replace(loss=-weight * work.advantages * work.outputs.logp, clipped=clipped)


PRESETS: dict[str, Preset] = {
    "cispo": Preset(
        "the clipped ratio is a weight, so that no token loses its gradient (TRL's bounds)",
        "MiniMax-M1, arXiv 2506.13585",
        (GroupAdvantage("batch", 1e-4), ClippedWeight(), Aggregate()),
    ),
}
