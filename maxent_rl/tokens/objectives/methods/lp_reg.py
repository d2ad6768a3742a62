"""Lp-Reg: keep rare tokens that are plausible alive, without raising noise.

A proxy policy is the one that drew the responses without the tokens below a threshold. The rarest tokens of negative
advantage are pulled towards it, where it gives them more than the policy does.

Source: Low-probability Tokens Sustain Exploration in Reinforcement Learning with Verifiable Reward (arXiv 2510.03222), in
the form of the released code: the rarest of the tokens with negative advantage, in the minibatch. The paper's indicator (over
which tokens its quantile is taken) could not be confirmed.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.settings import Fraction, Positive, Weight, static
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.regularisers import Regulariser
from maxent_rl.tokens.objectives.selection import share_of, smallest
from maxent_rl.tokens.objectives.stage import Preset, Statistic, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree

_DROPPED = -1e4  # the log-probability of what the proxy drops, in nats: finite, so that nothing becomes NaN


@struct.dataclass
class LpReg(Regulariser):
    """Replaces the loss of the rarest tokens of negative advantage by `-A r + lp_reg_weight k3(proxy, policy)`.

    Where their share is less than two tokens none is regularised, as in the released code.
    """

    lp_reg_share: Fraction = 0.01
    """Share of the tokens of negative advantage that is looked at, the rarest first (the paper: 0.01 at 14B, 0.005 at 32B)."""
    lp_reg_weight: Weight = 1.0
    """Weight of the divergence, in advantage per nat."""
    lp_reg_threshold: Literal["min-p", "fixed"] = static("min-p")
    """Whether the threshold is a share of the most likely token's probability, or a probability."""
    lp_reg_min_p: Fraction = 0.02
    """The share of the most likely token's probability, below which tokens are noise."""
    lp_reg_probability: Fraction = 0.02
    """The probability below which tokens are noise, under the threshold fixed; the most likely token never is."""
    lp_reg_largest: Positive | None = static(10.0)
    """Clamp the divergence at this: tokens 13.6 times likelier under the proxy are then let go. None for no clamp."""

    def statistics(self, state: PyTree) -> dict[str, Statistic]:
        """The log-probability of each token under the proxy."""
        return {"proxy_log_prob": self.proxy_log_prob}

    def proxy_log_prob(self, log_probs: Array, tokens: Array) -> Array:
        """The log-probability of tokens under the proxy, the policy without its noise tokens.

        Args:
          log_probs: [..., V] normalised, in nats.
          tokens: [...] int32.

        Returns:
          [...] nats; -1e4 for tokens that the proxy drops.
        """
        most = jnp.max(log_probs, axis=-1, keepdims=True)
        if self.lp_reg_threshold == "min-p":
            keep = log_probs >= jnp.log(jnp.asarray(self.lp_reg_min_p)) + most
        else:
            keep = (jnp.exp(log_probs) >= self.lp_reg_probability) | (log_probs == most)
        kept = jax.nn.logsumexp(log_probs, axis=-1, where=keep)

        def of_token(values: Array) -> Array:
            return jnp.take_along_axis(values, tokens[..., None], axis=-1)[..., 0]

        return jnp.where(of_token(keep), jnp.maximum(of_token(log_probs) - kept, _DROPPED), _DROPPED)

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Finds the rarest tokens of negative advantage [N, T] in the step."""
        negative = work.mask & (work.advantages < 0)
        count = share_of(jnp.sum(negative), self.lp_reg_share)
        rarest = smallest(jax.lax.stop_gradient(work.outputs.logp), negative, jnp.where(count > 1, count, 0))
        return state, work.replace(found=rarest)

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Replaces the loss [N, T] of the chosen tokens."""
        proxy, logp = work.batch.statistics["proxy_log_prob"], work.outputs.logp
        assert work.found is not None
        chosen = work.found & (logp < proxy)  # noise, and what has reached the proxy, is left alone
        divergence = losses.kl_estimate(logp, jnp.where(chosen, proxy, logp), "k3", self.lp_reg_largest)
        loss = -work.advantages * work.ratio + self.lp_reg_weight * divergence
        work = work.measure(**{"lp_reg/chosen": losses.masked_mean(chosen.astype(jnp.float32), work.mask)})
        return state, work.replace(loss=jnp.where(chosen, loss, work.loss))


PRESETS: dict[str, Preset] = {
    "lp_reg": Preset(
        "the rarest punished tokens are pulled to a policy without noise tokens",
        "Low-probability Tokens Sustain Exploration in RL with Verifiable Reward, arXiv 2510.03222",
        (GroupAdvantage(), Clipped(clip_low=1.0, clip_high=9.0), LpReg(), Aggregate()),
    ),
}
