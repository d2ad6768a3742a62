"""PPO with a critic that learns whole returns, a lambda by length for the policy, and the likelihood of right responses.

What the paper does besides stands elsewhere: the critic begins alone, on responses of a policy that does not move yet
(`--critic-warm-start-steps` of our own trainer), and responses are drawn in groups.

Source: VAPO, Efficient and Reliable Reinforcement Learning for Advanced Reasoning Tasks (arXiv 2504.05118). The bound of the
critic's step is verl's; the paper does not say one.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl.settings import Finite, Weight
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.aggregates import Aggregate, of_part
from maxent_rl.tokens.objectives.critics import CriticAdvantage, CriticLoss
from maxent_rl.tokens.objectives.regularisers import Regulariser
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree

_RIGHT_TOKENS = "right_tokens"


@struct.dataclass
class RightLikelihood(Regulariser):
    """Adds minus the mean log-probability of the tokens of right responses: what was found is imitated, too."""

    right_weight: Weight = 0.1
    """Weight of the likelihood, mu in the paper."""
    right_above: Finite = 0.0
    """A response is right where its outcome is above this."""

    def counts(self, batch: TokenBatch, counts: dict[str, Array]) -> dict[str, Array]:
        """And the tokens of right responses."""
        return counts | {_RIGHT_TOKENS: jnp.sum(self.right(batch), axis=-1)}

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds the term, to which each token of a right response gives its share."""
        right = self.right(work.batch)
        count = jnp.maximum(work.batch.count(_RIGHT_TOKENS, jnp.sum(right)), 1)
        term = jnp.sum(jnp.where(right, -work.outputs.logp, 0.0)) / count
        work = work.measure(**{"right/loss": term})
        return state, work.replace(extra=work.extra + self.right_weight * of_part(term, work.batch))

    def right(self, batch: TokenBatch) -> Array:
        """[N, T] tokens of right responses."""
        right = batch.scored & (jnp.where(batch.scored, batch.rewards, 0.0) > self.right_above)
        return jnp.asarray(batch.mask, bool) & right[:, None]


PRESETS: dict[str, Preset] = {
    "vapo": Preset(
        "ppo_critic whose critic learns whole returns, a lambda by length, a wider upper clip, and right responses imitated",
        "VAPO, arXiv 2504.05118",
        (
            CriticAdvantage(trace_length_scale=0.05, target_trace_decay=1.0),
            Clipped(clip_low=0.2, clip_high=0.28),
            CriticLoss(value_clip=0.5),
            RightLikelihood(),
            Aggregate(),
        ),
    ),
}
