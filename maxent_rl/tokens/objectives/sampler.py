"""Stages for responses that another program drew than the one that learns: the two say different probabilities.

An inference engine in low precision, at another temperature, or cut to the most likely tokens draws by probabilities that are
not those of the policy as the trainer computes them. `TokenBatch.logp_drawn` has the sampler's log-probabilities (of the
distribution that it really drew from, temperature and truncation included); `logp_old` stays the trainer's own. The factor
between the two is an importance weight, held within bounds or left out beyond them, and belongs to any objective.

Source: truncated importance sampling after Your Efficient RL Framework Secretly Brings You Off-Policy RL Training (Yao and
others, 2025); IcePop after Every Step Evolves (arXiv 2510.18855); masked weights and rejection of responses as verl and TRL
have them; the off-policy mask after DeepSeek-V3.2 (arXiv 2512.02556). Names elsewhere: `SAMPLER_CORRECTIONS`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Positive, Weight, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import RewardStage, leave_out
from maxent_rl.tokens.objectives.shapes import Shape
from maxent_rl.tokens.objectives.stage import Work
from maxent_rl.types import PyTree

_LARGEST = 20.0  # nats: beyond, a ratio is held there, so that none is infinite

SAMPLER_CORRECTIONS: dict[str, dict[str, Any]] = {
    "tis": {"sampler_level": "token", "sampler_high": 2.0},
    "sequence_tis": {"sampler_level": "sequence", "sampler_high": 2.0},
    "mis": {"sampler_level": "token", "sampler_high": 2.0, "sampler_beyond": "drop"},
    "sequence_mis": {"sampler_level": "sequence", "sampler_high": 2.0, "sampler_beyond": "drop"},
    "icepop": {"sampler_level": "token", "sampler_low": 0.5, "sampler_high": 5.0, "sampler_beyond": "drop"},
    "geometric_rejection": {"reject_level": "geometric", "reject_low": 0.999, "reject_high": 1.001},
    "largest_rejection": {"reject_level": "largest", "reject_low": 0.0, "reject_high": 10.0},
    "off_policy_mask": {"off_policy_threshold": 0.5},
}
"""Settings of `make` by what others call them: `make("grpo", **SAMPLER_CORRECTIONS["icepop"])`; they can be joined."""

Level = Literal["token", "sequence", "geometric"]


@struct.dataclass
class SamplerCorrection(Shape):
    """Weighs each token's policy loss by how much likelier the policy held it than the sampler did.

    Unbiased where nothing lies beyond the bounds and the level is sequence; by token, what earlier tokens changed about where
    a later one stands is left out, as everywhere in the field.
    """

    needs: ClassVar[tuple[str, ...]] = ("logp_drawn",)
    sampler_high: Positive = 2.0
    """Upper bound of the weight."""
    sampler_low: Weight = 0.0
    """Lower bound of the weight."""
    sampler_level: Level = static("token")
    """Whose ratio: the token's, the whole response's (a product), or its geometric mean."""
    sampler_beyond: Literal["hold", "drop"] = static("hold")
    """What a weight beyond its bounds becomes: the bound (truncated importance sampling), or 0 (masked; IcePop)."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Multiplies the weight [N, T], and measures how far policy and sampler are apart."""
        ratio = sampler_ratio(work.batch, work.mask, self.sampler_level)
        inside = (ratio >= self.sampler_low) & (ratio <= self.sampler_high)
        if self.sampler_beyond == "hold":
            weight = jnp.clip(ratio, self.sampler_low, self.sampler_high)
        else:
            weight = jnp.where(inside, ratio, 0.0)
        work = work.measure(
            **mismatch_metrics(work.batch, work.mask),
            **{
                "sampler/weight": losses.masked_mean(weight, work.mask),
                "sampler/beyond": losses.masked_mean(~inside, work.mask),
            },
        )
        return state, work.replace(weight=weight if work.weight is None else work.weight * weight)


@struct.dataclass
class SamplerRejection(RewardStage):
    """Leaves out responses on which policy and sampler are too far apart; their rewards still count in their group."""

    needs: ClassVar[tuple[str, ...]] = ("logp_drawn",)
    reject_high: Positive = 1.001
    """The greatest ratio of a response that stays."""
    reject_low: Weight = 0.0
    """The least."""
    reject_level: Literal["none", "sequence", "geometric", "largest"] = static("geometric")
    """Which ratio of a response: the product of its tokens', their geometric mean, or the one furthest from 1, in
    logarithms; none for no rejection."""

    def __post_init__(self) -> None:
        """Refuses bounds that leave nothing."""
        low: Any = self.reject_low
        high: Any = self.reject_high
        if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
            raise InvalidSettingError(
                f"--reject-low must be at most --reject-high, got {self.reject_low:g} and {self.reject_high:g}."
            )

    @property
    def active(self) -> bool:
        """Whether it is switched on."""
        return self.reject_level != "none"

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Masks their rows."""
        if self.reject_level == "largest":
            apart = _apart(batch, batch.mask)
            worst = jnp.argmax(jnp.abs(apart), axis=-1)[:, None]
            ratio = jnp.exp(jnp.take_along_axis(apart, worst, axis=-1))[:, 0]
        else:
            level: Level = "sequence" if self.reject_level == "sequence" else "geometric"
            ratio = sampler_ratio(batch, batch.mask, level)[:, 0]
        return state, leave_out(batch, (ratio < self.reject_low) | (ratio > self.reject_high))


@struct.dataclass
class OffPolicyMask(Shape):
    """Leaves out what the policy has left behind: responses of negative advantage that it would hardly write any more.

    Pushing them further down teaches little and is what makes off-policy training unstable; good responses stay, however far
    they are. How far is asked at every step, of the policy that learns, so that it grows with the steps on a batch. Responses
    that are left out still count in what the loss is divided by, and keep what regularisers add to them.

    Source: DeepSeek-V3.2 (arXiv 2512.02556), off-policy sequence masking, whose threshold is not published; slime's `use_opsm`
    has 1e-4, TRL's manual suggests 0.5.
    """

    off_policy_threshold: Weight = 0.5
    """Nats per token, on average over a response, by which its log-probability may have fallen."""
    off_policy_since: Literal["sampler", "policy"] = static("sampler")
    """Fallen since the sampler drew it (logp_drawn: what engine and trainer differ in counts too); or under the trainer's own
    policy of that time (logp_old)."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the sampler said, if that counts."""
        return ("logp_drawn",) if self.off_policy_since == "sampler" else ()

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the weight [N, T] to 0 there, and measures the share of responses, and how far the policy has moved."""
        drawn = work.batch.logp_drawn if self.off_policy_since == "sampler" else work.batch.logp_old
        assert drawn is not None
        fallen = losses.at_least_single(drawn) - jax.lax.stop_gradient(work.outputs.logp)
        mean = jax.vmap(losses.masked_mean)(fallen, work.mask)[:, None]
        left_out = (work.advantages < 0) & (mean > self.off_policy_threshold)
        there = jnp.any(work.mask, axis=-1)
        work = work.measure(
            **{
                "sampler/off_policy_masked": losses.masked_mean(jnp.any(left_out & work.mask, axis=-1), there),
                "sampler/off_policy_nats": losses.masked_mean(mean[:, 0], there),
            }
        )
        weight = jnp.where(left_out, 0.0, 1.0 if work.weight is None else work.weight)
        return state, work.replace(weight=weight)


def sampler_ratio(batch: TokenBatch, mask: Array, level: Level = "token") -> Array:
    """How much likelier the policy held what was drawn than the sampler did, constant.

    Args:
      batch: with `logp_old` of the policy and `logp_drawn` of the sampler.
      mask: [N, T] tokens that count.
      level: a token's own ratio, the product of its response's, or their geometric mean.

    Returns:
      [N, T] within e^-20 and e^20; 1 at masked places where it is the token's.
    """
    apart = _apart(batch, mask)
    if level != "token":
        total = jnp.sum(apart, axis=-1, keepdims=True)
        lengths = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1)
        apart = jnp.broadcast_to(total / lengths if level == "geometric" else total, apart.shape)
    return jnp.exp(jnp.clip(apart, -_LARGEST, _LARGEST))


def mismatch_metrics(batch: TokenBatch, mask: Array) -> dict[str, Array]:
    """How far the policy is from the sampler over the tokens that count: divergences in nats, and what share is left."""
    apart = _apart(batch, mask)
    ratio = jnp.exp(apart)
    tokens = jnp.maximum(jnp.sum(mask), 1)
    total, squares = jnp.sum(jnp.where(mask, ratio, 0.0)), jnp.sum(jnp.where(mask, ratio**2, 0.0))
    return {
        "sampler/kl": losses.masked_mean(-apart, mask),
        "sampler/kl_k3": losses.masked_mean(jnp.expm1(apart) - apart, mask),
        "sampler/effective_share": total**2 / jnp.maximum(squares * tokens, 1e-30),
        "sampler/largest_ratio": jnp.max(jnp.where(mask, ratio, 0.0)),
    }


def _apart(batch: TokenBatch, mask: Array) -> Array:
    """[N, T] nats by which the policy's log-probability lies above the sampler's; 0 where masked."""
    assert batch.logp_drawn is not None
    drawn, policy = losses.at_least_single(batch.logp_drawn), losses.at_least_single(batch.logp_old)
    return jnp.where(mask, jnp.clip(policy - drawn, -_LARGEST, _LARGEST), 0.0)
