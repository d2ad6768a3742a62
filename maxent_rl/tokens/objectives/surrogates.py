"""Surrogate stages: the policy loss of each token.

Source: PPO (arXiv 1707.06347), GSPO (2507.18071), CISPO (2506.13585), GMPO (2507.20673), SAPO (2511.20347).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.settings import Interval, Weight, static
from maxent_rl.tokens.objectives.stage import Slot, Stage, Work
from maxent_rl.types import PyTree


class Surrogate(Stage):
    """A stage that gives each token its policy loss."""

    slot: ClassVar[Slot] = "surrogate"


@struct.dataclass
class LogProbability(Surrogate):
    """Plain policy gradient: `-A log pi`, without a ratio (REINFORCE, GPG)."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T]."""
        return state, work.replace(loss=-work.advantages * work.outputs.logp)


@struct.dataclass
class Clipped(Surrogate):
    """PPO's clipped surrogate (`losses.clipped_surrogate`) by token, or by sequence as in GSPO.

    With a critic, `CriticAdvantage` makes advantages of its values; who has them already gives them in the batch.
    """

    clip_low: Weight = 0.2
    """Below `1 - clip_low` a falling probability is clipped."""
    clip_high: Weight = 0.2
    """Above `1 + clip_high` a rising one is."""
    dual_clip: Annotated[float, Interval(1, low_open=True)] | None = None
    """Bound of the ratio where the advantage is negative; None for none, as in TRL (`delta`), where verl has 3."""
    sequence_ratio: bool = static(False)
    """Clip the ratio of the whole response, the geometric mean of its tokens' (GSPO); for seq-mean-token-mean."""
    ratio_product: bool = static(False)
    """Take the product of its tokens' ratios in place of their mean: the response is one action (RLOO)."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T] and what was clipped."""
        if self.sequence_ratio:
            work = work.replace(ratio=sequence_ratio(work, self.ratio_product))
        low, high = bounds(work, self.clip_low, self.clip_high)
        loss = losses.clipped_surrogate(work.ratio, work.advantages, low, high, self.dual_clip)
        clipped = losses.clipped_away(work.ratio, work.advantages, low, high)
        if self.dual_clip is not None:
            cut = (work.advantages < 0) & (work.ratio > self.dual_clip)
            work = work.measure(**{"policy/clip_fraction_dual": losses.masked_mean(cut, work.mask)})
        return state, work.replace(loss=loss, clipped=clipped)


def bounds(work: Work, clip_low: Weight, clip_high: Weight) -> tuple[Array | float, Array | float]:
    """The clip widths that hold: those that a shape stage set for each token, or the surrogate's own."""
    low = clip_low if work.clip_low is None else work.clip_low
    return low, clip_high if work.clip_high is None else work.clip_high


def sequence_ratio(work: Work, product: bool = False) -> Array:
    """A response's ratio [N, T]: the geometric mean of its tokens' (GSPO), or their product.

    The value at each token is the response's, and its gradient such that the mean over the tokens has that of the response.
    Log-ratios are cut off: a mean above 10 nats, as in verl, a product beyond +-20; the gradient is then that at the bound.

    Source: Group Sequence Policy Optimization (arXiv 2507.18071), token form.
    """
    lengths = jnp.maximum(jnp.sum(work.mask, axis=-1, keepdims=True), 1)
    difference = jnp.where(work.mask, work.outputs.logp - work.batch.logp_old, 0.0)
    total = jax.lax.stop_gradient(jnp.sum(difference, axis=-1, keepdims=True))
    own = work.outputs.logp - jax.lax.stop_gradient(work.outputs.logp)
    if product:
        return jnp.exp(jnp.clip(total, -20.0, 20.0) + lengths * own)
    return jnp.exp(jnp.minimum(total / lengths, 10.0) + own)
