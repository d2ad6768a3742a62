"""A sigmoid in place of the clip.

Source: SAPO (arXiv 2511.20347).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.settings import Positive
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Surrogate
from maxent_rl.types import PyTree


@struct.dataclass
class SoftGate(Surrogate):
    """SAPO: a sigmoid in place of the clip, `-A (4 / tau) sigmoid(tau (r - 1))`, steeper for negative advantages."""

    gate_positive: Positive = 1.0
    """tau where the advantage is positive."""
    gate_negative: Positive = 1.05
    """tau where it is not."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T]."""
        steepness = jnp.where(work.advantages > 0, self.gate_positive, self.gate_negative)
        gate = 4.0 / steepness * jax.nn.sigmoid(steepness * (work.ratio - 1.0))
        return state, work.replace(loss=-work.advantages * gate)


PRESETS: dict[str, Preset] = {
    "sapo": Preset(
        "a sigmoid in place of the clip",
        "SAPO, arXiv 2511.20347",
        (GroupAdvantage(group_epsilon=1e-4), SoftGate(), Aggregate("seq-mean-token-mean", count_rows="all")),
    ),
}

# What TRL and verl call its settings.
ELSEWHERE: dict[str, str] = {
    "sapo_temperature_pos": "gate_positive",
    "sapo_temperature_neg": "gate_negative",
}
