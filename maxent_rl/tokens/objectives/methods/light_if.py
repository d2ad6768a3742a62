"""Light-IF: a warm start that learns the hardest tokens alone (Entropy-SFT), and a bonus of entropy where it would fall (TEA).

Source: Light-IF: Endowing LLMs with Generalizable Reasoning via Preview and Self-Checking for Complex Instruction Following
(arXiv 2508.03178). Entropy-SFT and TEA's function are those of the released code, in which TEA's cannot be reached; its weight
of 1 beside the policy loss is what is evidently meant. There gradients flow through TEA's weights too (`tea_detach=False`).
The paper's own form of the weights, here `tea_normalize` with a scope and a temperature, could not be confirmed.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Positive, Weight, static
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.regularisers import KLPenalty, Regulariser
from maxent_rl.tokens.objectives.selection import largest
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree


@struct.dataclass
class TEA(Regulariser):
    """Rewards the entropy of tokens by how much they would lower it: the softmax of their covariance, along each response.

    The covariance of a token is its advantage times its log-probability, each less its mean over the step. With
    `tea_normalize` a token weighs `clip(n softmax(cov / temperature), 0, cap)`, n the tokens of the scope, so that the bonus
    does not shrink with the length of responses; the paper's coefficient is then about 0.05.
    """

    needs: ClassVar[tuple[str, ...]] = ("entropy",)
    tea_weight: Weight = 1.0
    """Weight of the bonus, in advantage per nat."""
    tea_scale: Weight = 10.0
    """What the softmax is multiplied by; without `tea_normalize`."""
    tea_cap: Positive = 5.0
    """The most that a token weighs."""
    tea_temperature: Positive = 1.0
    """What the covariance is divided by."""
    tea_scope: Literal["sequence", "batch"] = static("sequence")
    """Whether the softmax is taken along each response, or over all tokens of the step."""
    tea_normalize: bool = static(False)
    """Multiply the softmax by the tokens of its scope in place of `tea_scale`."""
    tea_detach: bool = static(True)
    """Hold the weights constant; the released code lets gradients through."""

    def __post_init__(self) -> None:
        """Refuses a gradient through the whole step, of which there may be a part alone."""
        if not self.tea_detach and self.tea_scope == "batch":
            raise InvalidSettingError("--tea-scope batch holds its weights constant: leave out --tea-detach=false.")

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Finds the means over the step of advantages and log-probabilities, and what its softmax is divided by.

        [N, T, 4]: the same everywhere, the third the logarithm of the sum over the step, the fourth its tokens.
        """
        advantage, logp = (losses.masked_mean(each, work.mask) for each in (work.advantages, work.outputs.logp))
        covariance = self._covariance(work, advantage, logp)
        total = jax.nn.logsumexp(jnp.where(work.mask, covariance, -jnp.inf))
        held = jnp.stack(
            [advantage, logp, jnp.where(jnp.any(work.mask), total, 0.0), jnp.sum(work.mask, dtype=jnp.float32)]
        )
        return state, work.replace(found=jnp.broadcast_to(held, (*work.mask.shape, 4)))

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds to the penalty [N, T]."""
        assert work.outputs.entropy is not None
        weight = self.weights(work)
        weight = jax.lax.stop_gradient(weight) if self.tea_detach else weight
        bonus = self.tea_weight * weight * work.outputs.entropy
        work = work.measure(**{"tea/weight": losses.masked_mean(weight, work.mask)})
        return state, work.replace(penalty=work.penalty - bonus)

    def weights(self, work: Work) -> Array:
        """[N, T] the weight of each token's entropy; 0 where masked."""
        assert work.found is not None
        advantage, logp, total, tokens = jnp.moveaxis(jax.lax.stop_gradient(work.found), -1, 0)
        covariance = self._covariance(work, advantage, logp)
        if self.tea_scope == "sequence":
            # A row without tokens has no softmax: all would be minus infinity.
            held = jnp.where(work.mask, covariance, -jnp.inf)
            any_token = jnp.any(work.mask, axis=-1, keepdims=True)
            share = jax.nn.softmax(jnp.where(any_token, held, 0.0), axis=-1)
            tokens = jnp.sum(work.mask, axis=-1, keepdims=True)
        else:
            share = jnp.exp(jnp.where(work.mask, covariance - total, -jnp.inf))
        scale = tokens if self.tea_normalize else self.tea_scale
        return jnp.where(work.mask, jnp.minimum(scale * share, self.tea_cap), 0.0)

    def _covariance(self, work: Work, advantage: Array, logp: Array) -> Array:
        return (work.advantages - advantage) * (work.outputs.logp - logp) / self.tea_temperature


def hardest_tokens(
    loss: ArrayLike, entropy: ArrayLike, mask: ArrayLike, share: float = 0.8, entropy_weight: ArrayLike = 0.8
) -> Array:
    """The tokens that Entropy-SFT learns: those of the largest `loss - entropy_weight entropy`, of all that there are.

    Tokens that are known already are left out, and those whose loss is only as large as the model is uncertain.

    Args:
      loss: [...] minus the log-probability of each right token, in nats; constant.
      entropy: [...] of the model where it stands, in nats; constant.
      mask: [...] nonzero on the tokens of right answers.
      share: of them that is learned, at most 1; the number is the floor of its product in double precision, as in the
        released code, and at least one.
      entropy_weight: [] a; 0 for the tokens of the largest loss.

    Returns:
      [...] bool; their mean loss is Entropy-SFT's.

    Source: arXiv 2508.03178, released code, whose command has 0.8 and 0.8 (its function 0.2 and 1).
    """
    there = jnp.asarray(mask) != 0
    surplus = jax.lax.stop_gradient(jnp.asarray(loss) - entropy_weight * jnp.asarray(entropy))
    # In single precision 0.29 * 100 is 29, in double just below: a table of all counts keeps the code's numbers.
    table = np.maximum(np.floor(np.float64(share) * np.arange(there.size + 1)), 1).astype(np.int32)
    return largest(jnp.where(there, surplus, 0.0), there, jnp.asarray(table)[jnp.sum(there)])


def length_reward(length: ArrayLike, score: ArrayLike, longest: int = 8192, least: float = 0.2) -> Array:
    """The reward by which the paper first teaches to think at length: more where the answer is right, less where it is wrong.

    Args:
      length: [...] tokens of each response.
      score: [...] correctness and partial credit.
      longest: a response of so many tokens, or more, has -2.
      least: the score from which an answer counts as right.

    Returns:
      [...]: `2 score f` of a right one and `-f` of another, with `f = (1 - cos(pi length / longest)) / 2`.

    Source: arXiv 2508.03178, released code, Zero-RL.
    """
    length, score = jnp.asarray(length, jnp.float32), jnp.asarray(score, jnp.float32)
    rise = 0.5 * (1.0 - jnp.cos(math.pi * length / longest))
    return jnp.where(length >= longest, -2.0, jnp.where(score >= least, 2.0 * score * rise, -rise))


PRESETS: dict[str, Preset] = {
    "light_if": Preset(
        "entropy rewarded at the tokens that would lower it most (TEA-RL)",
        "Light-IF, arXiv 2508.03178",
        (
            GroupAdvantage(),
            Clipped(clip_low=1.0, clip_high=1.0, dual_clip=10.0),
            TEA(),
            KLPenalty(kl_weight=0.001),
            Aggregate(),
        ),
    ),
}
