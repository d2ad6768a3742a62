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
from maxent_rl.settings import Interval, Positive, Weight, static
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
class Unclipped(Surrogate):
    """The importance-weighted policy gradient without any clip: `-A r` (KL-Cov)."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T]."""
        return state, work.replace(loss=-work.advantages * work.ratio)


@struct.dataclass
class Clipped(Surrogate):
    """PPO's clipped surrogate (`losses.clipped_surrogate`) by token, or by sequence as in GSPO.

    With a critic, give its advantages in the batch: `generalized_advantages` takes [time, ...] arrays, so transposed ones,
    with `terminated` true on each response's last token; `whiten(advantages, mask)` then does what verl's and TRL's PPO do,
    and the critic's own loss is `losses.clipped_value_loss`.
    """

    clip_low: Weight = 0.2
    """Below `1 - clip_low` a falling probability is clipped."""
    clip_high: Weight = 0.2
    """Above `1 + clip_high` a rising one is."""
    dual_clip: Annotated[float, Interval(1, low_open=True)] | None = None
    """Bound of the ratio where the advantage is negative; None for none, as in TRL (`delta`), where verl has 3."""
    sequence_ratio: bool = static(False)
    """Clip the ratio of the whole response, the geometric mean of its tokens' (GSPO)."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T] and what was clipped."""
        if self.sequence_ratio:
            work = work.replace(ratio=sequence_ratio(work))
        low, high = bounds(work, self.clip_low, self.clip_high)
        loss = losses.clipped_surrogate(work.ratio, work.advantages, low, high, self.dual_clip)
        clipped = losses.clipped_away(work.ratio, work.advantages, low, high)
        if self.dual_clip is not None:
            cut = (work.advantages < 0) & (work.ratio > self.dual_clip)
            work = work.measure(**{"policy/clip_fraction_dual": losses.masked_mean(cut, work.mask)})
        return state, work.replace(loss=loss, clipped=clipped)


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


def bounds(work: Work, clip_low: Weight, clip_high: Weight) -> tuple[Array | float, Array | float]:
    """The clip widths that hold: those that a shape stage set for each token, or the surrogate's own."""
    low = clip_low if work.clip_low is None else work.clip_low
    return low, clip_high if work.clip_high is None else work.clip_high


def sequence_ratio(work: Work) -> Array:
    """GSPO's ratio [N, T]: the value is the response's, and each token's gradient that of the response over its length.

    Source: Group Sequence Policy Optimization (arXiv 2507.18071), token form.
    """
    lengths = jnp.maximum(jnp.sum(work.mask, axis=-1, keepdims=True), 1)
    difference = jnp.where(work.mask, work.outputs.logp - work.batch.logp_old, 0.0)
    mean = jax.lax.stop_gradient(jnp.sum(difference, axis=-1, keepdims=True) / lengths)
    own = work.outputs.logp - jax.lax.stop_gradient(work.outputs.logp)
    return jnp.exp(jnp.minimum(mean + own, 10.0))
