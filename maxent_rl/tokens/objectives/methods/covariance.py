"""Clip-Cov and KL-Cov: hold back the few tokens that lower the entropy most.

The entropy falls by the covariance of log-probability and advantage, and a very small share of the tokens makes most of
it (`losses.covariance_contribution`). Clip-Cov leaves a few of them out at random; KL-Cov holds the worst in place.

Source: The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models (arXiv 2505.22617), in the form of the
released code. The paper writes KL-Cov's penalty as a divergence; the code's is the absolute log-ratio, as here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.settings import Finite, Fraction, Weight
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.regularisers import Regulariser
from maxent_rl.tokens.objectives.selection import drawn, largest, share_of, smallest
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Clipped, Surrogate
from maxent_rl.types import PyTree


@struct.dataclass
class ClipCov(Regulariser):
    """Takes the gradient from a few tokens, drawn at random among those of large covariance; they still count as tokens.

    Of a small batch `clip_share` may be less than one token, and one is taken: there use 1e-3 to 1e-2, and bounds at the top
    percentiles of the covariance (metric `covariance/p99`).
    """

    covariance_low: Finite = 1.0
    """Only tokens whose covariance lies above this are drawn, in advantage times nats."""
    covariance_high: Finite = 5.0
    """And below this."""
    clip_share: Fraction = 2e-4
    """Share of all tokens that is drawn, at least one token."""

    def init(self, key: Array) -> PyTree:
        """The random key, split at each step."""
        return key

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Draws the tokens [N, T] among all of the step."""
        assert work.batch.whole is not None
        state, key = jax.random.split(state)
        covariance = losses.covariance_contribution(work.outputs.logp, work.advantages, work.mask)
        between = (self.covariance_low < covariance) & (covariance < self.covariance_high)
        eligible = (
            work.mask & between & (work.clipped == 0)
        )  # those that the surrogate has clipped have no gradient to lose
        numbers = drawn(key, work.batch.whole.number, work.mask)
        chosen = smallest(numbers, eligible, share_of(jnp.sum(work.mask), self.clip_share))
        return state, _measure(work, covariance).replace(found=chosen)

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T] of the drawn tokens to 0."""
        assert work.found is not None
        return state, _measure_chosen(work, work.found).replace(loss=jnp.where(work.found, 0.0, work.loss))


@struct.dataclass
class Unclipped(Surrogate):
    """The importance-weighted policy gradient without any clip: `-A r` (KL-Cov)."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T]."""
        return state, work.replace(loss=-work.advantages * work.ratio)


@struct.dataclass
class KLCov(Regulariser):
    """Holds the tokens of the largest covariance near the policy that drew them: adds `kl_cov_weight |log ratio|`.

    The paper's surrogate beside it has no clip (`Unclipped`). At a ratio of 1 the penalty has no gradient: it acts from the
    second step on a batch on.
    """

    kl_cov_share: Fraction = 2e-3
    """Share of all tokens that is held, at least one token; 0 for none (the paper: 2e-3 at 7B, 2e-4 at 32B)."""
    kl_cov_weight: Weight = 1.0
    """Weight of the absolute log-ratio, in advantage per nat."""

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Finds the tokens of the largest covariance [N, T] among all of the step."""
        covariance = losses.covariance_contribution(work.outputs.logp, work.advantages, work.mask)
        count = jnp.where(jnp.asarray(self.kl_cov_share) > 0, share_of(jnp.sum(work.mask), self.kl_cov_share), 0)
        chosen = largest(covariance, work.mask, count)
        return state, _measure(work, covariance).replace(found=chosen)

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds to the penalty [N, T] of the held tokens."""
        distance = losses.kl_estimate(work.outputs.logp, work.batch.logp_old, "abs")
        assert work.found is not None
        penalty = jnp.where(work.found, self.kl_cov_weight * distance, 0.0)
        return state, _measure_chosen(work, work.found).replace(penalty=work.penalty + penalty)


def _measure(work: Work, covariance: Array) -> Work:
    """Adds the covariance of the step and its top percentile."""
    measured = {
        "covariance/mean": losses.masked_mean(covariance, work.mask),
        "covariance/p99": losses.masked_quantile(covariance, work.mask, 0.99),
    }
    return work.measure(**measured)


def _measure_chosen(work: Work, chosen: Array) -> Work:
    """Adds the share of tokens chosen."""
    return work.measure(**{"covariance/chosen": losses.masked_mean(chosen.astype(jnp.float32), work.mask)})


PRESETS: dict[str, Preset] = {
    "clip_cov": Preset(
        "no gradient for a few tokens, drawn among those that lower the entropy most",
        "The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models, arXiv 2505.22617",
        (GroupAdvantage(), Clipped(clip_low=1.0, clip_high=1.0), ClipCov(), Aggregate()),
    ),
    "kl_cov": Preset(
        "no clip, and the tokens that lower the entropy most held near where they were",
        "The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models, arXiv 2505.22617",
        (GroupAdvantage(), Unclipped(), KLCov(), Aggregate()),
    ),
}

# What TRL and verl call its settings.
ELSEWHERE: dict[str, str] = {
    "clip_cov_ratio": "clip_share",
    "clip_cov_lb": "covariance_low",
    "clip_cov_ub": "covariance_high",
    "kl_cov_ratio": "kl_cov_share",
    "ppo_kl_coef": "kl_cov_weight",
}
