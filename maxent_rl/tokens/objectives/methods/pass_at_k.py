"""One right response of k is enough.

Source: Pass@k Training (arXiv 2508.10751), the analytical form.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.scipy.special import gammaln

from maxent_rl.settings import Count, Finite, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import AdvantageStage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.objectives.stage import Preset
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree


@struct.dataclass
class PassAtK(AdvantageStage):
    """The advantage of each response where k of the group's are drawn and one right one is enough, in closed form.

    Source: Pass@k Training, arXiv 2508.10751, analytical form.
    """

    pass_k: Count = static(2)
    """Responses of which one must be right; 4 and 8 in the paper."""
    right_above: Finite = 0.5
    """A reward above this is that of a right response."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N]; 0 in groups of fewer than k, and where all draws, or none, would pass."""
        groups = Grouping.of(batch)
        right = groups.valid & (jnp.where(groups.valid, batch.outcomes, 0.0) > self.right_above)
        number, wrong = groups.size, groups.size - groups.total(right.astype(jnp.float32))
        passes = 1.0 - share_of_choices(wrong, number, self.pass_k)
        spread = jnp.sqrt(passes * (1.0 - passes))
        others = share_of_choices(wrong - 1, number - 1, self.pass_k - 1)
        found = jnp.where(right, 1.0 - passes, 1.0 - passes - others)
        usable = groups.valid & (number >= self.pass_k) & (spread > 1e-6)
        return state, dataclasses.replace(
            batch, advantages=jnp.where(usable, found / jnp.where(usable, spread, 1.0), 0.0)
        )


def share_of_choices(good: Array, total: Array, k: int) -> Array:
    """The share of the ways to choose k of `total` [...] that takes none but `good` [...] ones; 0 where there is none."""
    possible = (good >= k) & (total >= k)
    good, total = jnp.where(possible, good, k), jnp.where(possible, total, k)

    def log_choices(number: Array) -> Array:
        return gammaln(number + 1.0) - gammaln(number - k + 1.0)

    return jnp.where(possible, jnp.exp(log_choices(good) - log_choices(total)), 0.0)


PRESETS: dict[str, Preset] = {
    "pass_at_k": Preset(
        "one right response of k is enough, in closed form",
        "Pass@k Training, arXiv 2508.10751",
        (PassAtK(), Clipped(), Aggregate()),
    ),
}
