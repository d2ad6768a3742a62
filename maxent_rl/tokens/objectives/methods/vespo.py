"""Responses count by a smooth function of how likely they have become as a whole, without a clip.

Source: VESPO, variational sequence-level soft policy optimisation, in the form of TRL's trainer: `w^k exp(lambda (1 - w))` of
the product of ratios w, apart for positive and negative advantages.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl.settings import Weight
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Surrogate
from maxent_rl.types import PyTree

_LARGEST = 20.0  # nats of a response's log-ratio either way


@struct.dataclass
class GammaWeight(Surrogate):
    """`-sg(phi(w)) A log pi` with the weight of the whole response, 1 where it is as likely as when it was drawn."""

    vespo_power_positive: Weight = 2.0
    """k where the advantage is positive: how fast the weight falls for responses that have become unlikely."""
    vespo_decay_positive: Weight = 3.0
    """lambda there: how fast it falls for those that have become likelier."""
    vespo_power_negative: Weight = 3.0
    """k where it is not."""
    vespo_decay_negative: Weight = 2.0
    """lambda where it is not."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T]."""
        apart = jax.lax.stop_gradient(jnp.where(work.mask, work.outputs.logp - work.batch.logp_old, 0.0))
        total = jnp.sum(apart, axis=-1, keepdims=True)
        positive = gamma_weight(total, self.vespo_power_positive, self.vespo_decay_positive)
        negative = gamma_weight(total, self.vespo_power_negative, self.vespo_decay_negative)
        weight = jnp.where(work.advantages > 0, positive, negative)
        return state, work.replace(loss=-weight * work.advantages * work.outputs.logp)


def gamma_weight(log_ratio: Array, power: Weight, decay: Weight) -> Array:
    """`w^power exp(decay (1 - w))` of log-ratios log w [...], held within 20 nats; largest at `w = power / decay`."""
    held = jnp.clip(log_ratio, -_LARGEST, _LARGEST)
    return jnp.exp(power * held + decay * (1.0 - jnp.exp(held)))


PRESETS: dict[str, Preset] = {
    "vespo": Preset(
        "responses count by a smooth function of how likely they have become as a whole (TRL's form)",
        "VESPO",
        (GroupAdvantage(group_epsilon=1e-4), GammaWeight(), Aggregate()),
    ),
}

# What TRL calls its settings.
ELSEWHERE: dict[str, str] = {
    "vespo_k_pos": "vespo_power_positive",
    "vespo_lambda_pos": "vespo_decay_positive",
    "vespo_k_neg": "vespo_power_negative",
    "vespo_lambda_neg": "vespo_decay_negative",
}
