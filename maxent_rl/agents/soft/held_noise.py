"""Noise that exploration holds over several steps, so that it moves a body instead of shaking it.

Source: FlashSAC (arXiv 2604.04539): the number of steps is drawn from a truncated zeta law, `P(n) ~ 1/n**2`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from maxent_rl.types import Array


@struct.dataclass
class HeldNoise:
    """The noise of one seed's environments, all of which change it at once.

    Attributes:
      noise: [env, action] standard normal.
      left: [] int32 steps for which it still holds, the present one included.
      most: the most steps for which it is held.
    """

    noise: Array
    left: Array
    most: int = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]

    @classmethod
    def create(cls, key: Array, num_envs: int, action_size: int, most: int) -> HeldNoise:
        """Draws noise, and for how long it holds."""
        noise_key, steps_key = jax.random.split(key)
        return cls(jax.random.normal(noise_key, (num_envs, action_size)), _draw_steps(steps_key, most), most)

    def next(self, key: Array) -> HeldNoise:
        """After a step: the same noise, or new one where it has been held for as long as it was to be."""
        num_envs, action_size = self.noise.shape
        fresh = HeldNoise.create(key, num_envs, action_size, self.most)
        is_over = self.left <= 1
        noise, left = jnp.where(is_over, fresh.noise, self.noise), jnp.where(is_over, fresh.left, self.left - 1)
        return HeldNoise(noise, left, self.most)


def hold_probabilities(most: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """[most] the probability of holding noise for 1, 2, ... steps."""
    weights = np.arange(1, most + 1, dtype=np.float64) ** -2.0
    probabilities: np.ndarray[tuple[int], np.dtype[np.float64]] = weights / weights.sum()
    return probabilities


def _draw_steps(key: Array, most: int) -> Array:
    return 1 + jax.random.categorical(key, jnp.log(jnp.asarray(hold_probabilities(most), jnp.float32))).astype(
        jnp.int32
    )
