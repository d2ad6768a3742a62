"""TD3+BC: TD3 whose policy is held near the data's actions by their squared distance.

Source: A Minimalist Approach to Offline Reinforcement Learning (arXiv 2106.06860).
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.offline.td3 import OfflineTD3, TD3State
from maxent_rl.settings import Weight, static
from maxent_rl.types import Array, LoggedTransition, Metrics, PyTree

__all__ = ["TD3BC", "TD3State"]


@struct.dataclass
class TD3BC(OfflineTD3):
    """TD3+BC: climbs the first critic and clones the data at once (equations 3 to 5)."""

    alpha: Weight = 2.5
    """Weight of the critic's value, which is divided by its mean size, against cloning; 0 is behaviour cloning."""

    normalize_observations: bool = static(True)
    """Scale observations by the data's mean and standard deviation."""

    # The paper divides by the standard deviation plus 0.001; here scores are clipped to +-10 besides, which no value of the
    # data reaches that is not an outlier.

    def policy_loss(self, critics: PyTree, batch: LoggedTransition, action: Array) -> tuple[Array, Metrics]:
        """Equation 3 with the scale of equation 5; the squared distance is the mean over action dimensions."""
        q = self.first_value(critics, batch.observation, action)
        distance = jnp.mean((action - batch.action) ** 2, axis=-1)
        loss = jnp.mean(losses.behavior_regularized_loss(q, distance, self.alpha, 1.0))
        return loss, {"actor/q_mean": jnp.mean(q), "actor/distance": jnp.mean(distance)}
