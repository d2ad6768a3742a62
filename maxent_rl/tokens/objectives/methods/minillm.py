"""MiniLLM: the gradient of KL(student || teacher) over whole responses, as a part by token and a policy gradient.

Each token has its own divergence over the vocabulary, whose gradient is exact, and beside it the policy gradient of how much
likelier the teacher holds all that follows (`losses.distillation_returns`).

Source: MiniLLM: On-Policy Distillation of Large Language Models (arXiv 2306.08543), section 2.2: single-step decomposition,
length normalisation, importance weights. Its teacher-mixed sampling is a matter of how responses are drawn: with
`TokenBatch.logp_old` of the mixture they are weighed here. Its clip of the ratio and its language-modelling loss beside it are
not part of this.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.settings import Positive, Weight, static
from maxent_rl.tokens import vocabulary
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.distillation import measured
from maxent_rl.tokens.objectives.stage import Preset, Teaching, Work
from maxent_rl.tokens.objectives.surrogates import Surrogate
from maxent_rl.types import PyTree


@struct.dataclass
class ResponseDivergence(Surrogate):
    """KL(policy || teacher) of the token, less what follows times its log-probability; weighed by importance."""

    needs: ClassVar[tuple[str, ...]] = ()
    later_weight: Weight = 1.0
    """Weight of what follows; 0 for each token's own divergence alone."""
    later_mean: bool = static(True)
    """Take the mean over the tokens that follow in place of the sum, so that long responses weigh no more."""
    minillm_ratio_most: Positive | None = 2.0
    """Bound of the importance weight of each token, which is 1 on policy; None for no such weight."""

    def teaching(self, state: PyTree) -> Teaching:
        """The reverse divergence and the teacher's log-probabilities."""
        compared = {"reverse_kl": vocabulary.teacher_divergence(1.0), "teacher_log_prob": vocabulary.teacher_log_prob}
        return Teaching(compared, teacher="frozen")

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T]."""
        own, told = (work.outputs.compared[name] for name in ("reverse_kl", "teacher_log_prob"))
        known = work.mask & jnp.isfinite(own) & jnp.isfinite(told)
        later = losses.distillation_returns(work.outputs.logp, told, known, self.later_mean)
        weight = jnp.ones(work.mask.shape)
        if self.minillm_ratio_most is not None:
            weight = losses.truncated_weight(work.outputs.logp, work.batch.logp_old, self.minillm_ratio_most)
        loss = jnp.where(known, weight * (own - self.later_weight * later * work.outputs.logp), 0.0)
        return state, measured(work, jax.lax.stop_gradient(own), known).replace(loss=loss)


PRESETS: dict[str, Preset] = {
    "minillm": Preset(
        "the divergence of whole responses from a teacher: by token, and by what follows",
        "MiniLLM, arXiv 2306.08543",
        (ResponseDivergence(), Aggregate()),
    ),
}
