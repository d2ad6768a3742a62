"""The geometric mean of the tokens' clipped ratios.

Source: GMPO (arXiv 2507.20673).
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.settings import Weight
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Surrogate
from maxent_rl.types import PyTree


@struct.dataclass
class GeometricMean(Surrogate):
    """GMPO: the ratio of a response is the geometric mean of its tokens' ratios, each clipped for itself.

    Every token of a row holds the row's loss, to be aggregated by seq-mean-token-mean. Bounds that a shape stage sets have
    no place here: these are of log-ratios.
    """

    log_clip_low: Weight = 0.4
    """A token's log-ratio counts no further below 0 than this where the advantage is negative, in nats."""
    log_clip_high: Weight = 0.4
    """And no further above 0 where it is positive."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T] and what was clipped."""
        lengths = jnp.maximum(jnp.sum(work.mask, axis=-1, keepdims=True), 1)
        log_ratio = jnp.where(work.mask, jnp.log(work.ratio), 0.0)
        sign = jnp.sign(work.advantages)
        kept = sign * jnp.minimum(sign * log_ratio, sign * jnp.clip(log_ratio, -self.log_clip_low, self.log_clip_high))
        ratio = jnp.exp(jnp.sum(jnp.where(work.mask, kept, 0.0), axis=-1, keepdims=True) / lengths)
        advantage = jnp.sum(work.advantages, axis=-1, keepdims=True) / lengths
        loss = jnp.broadcast_to(-advantage * ratio, work.mask.shape)
        clipped = losses.clipped_away(
            work.ratio, work.advantages, 1.0 - jnp.exp(-self.log_clip_low), jnp.exp(self.log_clip_high) - 1.0
        )
        return state, work.replace(loss=loss, clipped=clipped)


PRESETS: dict[str, Preset] = {
    "gmpo": Preset(
        "the geometric mean of the tokens' clipped ratios",
        "GMPO, arXiv 2507.20673",
        (GroupAdvantage(), GeometricMean(), Aggregate("seq-mean-token-mean")),
    ),
}
