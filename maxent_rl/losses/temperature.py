"""The temperature as a Lagrange multiplier that holds the policy's entropy at a target.

Two forms are in use. Both have the same sign and the same zero; the dual form's gradient is `exp(log_alpha)` times the
other's, a factor that Adam divides out except while the temperature changes quickly.

Source: Soft Actor-Critic Algorithms and Applications (arXiv 1812.05905), section 5.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def temperature_loss(log_alpha: ArrayLike, log_prob: ArrayLike, target_entropy: ArrayLike) -> Array:
    """Moves the temperature so that the policy's entropy meets its target: `-log_alpha * (log_prob + target_entropy)`.

    Args:
      log_alpha: [] natural logarithm of the temperature.
      log_prob: [...] log pi(a|s) of sampled actions, in nats; held constant.
      target_entropy: [] the entropy to hold, in nats; held constant.

    Returns:
      [...] loss per sample; its mean gradient in `log_alpha` is the surplus of entropy over the target, in nats.

    Source: the authors' released code, 2018 to 2020 ("log form"); arXiv 1812.05905, section 5.
    """
    return jnp.asarray(log_alpha) * _surplus(log_prob, target_entropy)


def temperature_loss_dual(log_alpha: ArrayLike, log_prob: ArrayLike, target_entropy: ArrayLike) -> Array:
    """The paper's own form of the temperature loss: `-exp(log_alpha) * (log_prob + target_entropy)`.

    Args:
      log_alpha: [] natural logarithm of the temperature.
      log_prob: [...] log pi(a|s) of sampled actions, in nats; held constant.
      target_entropy: [] the entropy to hold, in nats; held constant.

    Returns:
      [...] loss per sample; its mean gradient in `log_alpha` is the temperature times the surplus of entropy.

    Source: arXiv 1812.05905, equation 18.
    """
    return jnp.exp(log_alpha) * _surplus(log_prob, target_entropy)


def _surplus(log_prob: ArrayLike, target_entropy: ArrayLike) -> Array:
    return jax.lax.stop_gradient(-jnp.asarray(log_prob) - target_entropy)
