"""Estimators of the divergence between two policies from single samples.

For samples of `pi`, k1 and k3 have the mean KL(pi || reference), k2 only to second order. As losses on fixed samples they
pull differently: the expected gradient of k1 is zero, that of k2 is the gradient of KL(pi || reference), and that of k3
the gradient of KL(reference || pi).

Source: "Approximating KL Divergence", J. Schulman, 2020; the forms and clamps of verl's trainer.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import held_within, in_single_precision

KLEstimator: TypeAlias = Literal["k1", "k2", "k3", "abs", "k1+", "k3+", "abs+"]
_LARGEST_DIFFERENCE, _LARGEST_K3 = 20.0, 10.0


@in_single_precision
def kl_estimate(
    log_prob: ArrayLike,
    reference_log_prob: ArrayLike,
    estimator: KLEstimator = "k3",
    largest: float | None = None,
) -> Array:
    """Estimates KL(pi || reference) from one sample of `pi`.

    With `d = reference_log_prob - log_prob`: k1 is `-d`, k2 `d**2 / 2`, k3 `exp(d) - d - 1`, abs `|d|`, whose derivative at
    0 is taken as 0. A name with `+` has the value of that estimator and the gradient of k2.

    Args:
      log_prob: [...] log pi of the sample, in nats.
      reference_log_prob: [...] the same under the reference; held constant.
      estimator: which one.
      largest: clamp k3 to +-this; beyond it the gradient is zero. None for no clamp, but that `d` is held below 20 nats,
        so that nothing becomes infinite; beyond that the gradient is the one at 20 nats, and pulls the policy back.

    Returns:
      [...] nats; k2, k3 and abs are never negative (k3 up to the rounding of `d`).

    Raises:
      ValueError: there is no such estimator.

    Source: "Approximating KL Divergence", J. Schulman, 2020; `+`: verl's straight-through variants. Beyond 20 nats verl has
    no gradient, and TRL no bound.
    """
    if estimator not in get_args(KLEstimator):
        raise ValueError(f"Unknown estimator {estimator!r}; there are {', '.join(get_args(KLEstimator))}.")
    difference = jax.lax.stop_gradient(jnp.asarray(reference_log_prob)) - jnp.asarray(log_prob)
    if estimator.endswith("+"):
        slope = 0.5 * difference**2
        value = kl_estimate(log_prob, reference_log_prob, estimator[:-1], largest)  # type: ignore[arg-type]
        return slope + jax.lax.stop_gradient(value - slope)
    if estimator == "k1":
        return -difference
    if estimator == "k2":
        return 0.5 * difference**2
    if estimator == "abs":
        return difference * jax.lax.stop_gradient(jnp.sign(difference))
    bounded = held_within(difference, -math.inf, _LARGEST_DIFFERENCE)
    estimate = jnp.expm1(bounded) - bounded  # exp(d) - 1 would lose small divergences, and could come out negative
    return estimate if largest is None else jnp.clip(estimate, -largest, largest)
