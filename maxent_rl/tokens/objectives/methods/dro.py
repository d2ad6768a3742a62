"""A quadratic penalty on how far log-probabilities moved, in place of ratio and clip.

Source: Offline Regularised Reinforcement Learning (DRO, arXiv 2405.19107), in the token form of verl and of the Tinker API,
with group advantages for its value function.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct

from maxent_rl.settings import Positive
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Surrogate
from maxent_rl.types import PyTree


@struct.dataclass
class QuadraticTrust(Surrogate):
    """`-(A log pi - beta / 2 (log pi - log pi_old)^2)`: least where the log-probability has moved by `A / beta`."""

    dro_beta: Positive = 0.1
    """Weight of the square, in advantage per squared nat times two."""

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T]."""
        moved = work.outputs.logp - work.batch.logp_old
        return state, work.replace(loss=0.5 * self.dro_beta * jnp.square(moved) - work.advantages * work.outputs.logp)


PRESETS: dict[str, Preset] = {
    "dro": Preset(
        "a quadratic penalty on how far log-probabilities moved, in place of ratio and clip",
        "DRO, arXiv 2405.19107",
        (GroupAdvantage(), QuadraticTrust(), Aggregate()),
    ),
}
