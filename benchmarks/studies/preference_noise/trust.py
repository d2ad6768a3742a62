"""TRPO's step on a policy over few items, where every expectation is exact: natural gradient, bound, line search.

Source: Trust Region Policy Optimization (arXiv 1502.05477), section 6 and appendix C. All loops have a fixed number of
turns, so that the step can be mapped over seeds and scenarios.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from maxent_rl import losses
from maxent_rl.agents.natural_gradient import conjugate_gradient

LogProb = Callable[[Any, Array], Array]
"""Log-probabilities [..., item] of parameters and contexts [..., context]."""


class TrustRegion(NamedTuple):
    """How far a step may go, and how it is found.

    Attributes:
      bound: largest mean divergence KL(before || after) of a step, in nats.
      damping: added to the Fisher matrix where it is inverted.
      products: turns of conjugate gradient, one Fisher-vector product each.
      shrink: factor between two lengths that are tried.
      lengths: how many are tried before the step is given up.
      fisher_share: share of the contexts in the Fisher matrix; the gradient and the bound are over all.
    """

    bound: float = 0.01
    damping: float = 0.1
    products: int = 10
    shrink: float = 0.7
    lengths: int = 4
    fisher_share: float = 0.2


class Step(NamedTuple):
    """What a step did: gain of the expected score, mean divergence [] in nats, and the length taken, 0 for none."""

    gain: Array
    divergence: Array
    length: Array


def trust_region_step(
    log_prob: LogProb, params: Any, contexts: Array, scores: Array, settings: TrustRegion
) -> tuple[Any, Step]:
    """Moves a policy along the natural gradient of its expected score, as far as the bound allows.

    The longest step of the quadratic model is `sqrt(2 bound / x F x)`, without the damping in it, so that it uses the whole
    bound; of that, the first length that raises the expected score, by more than rounding can, and keeps the true divergence
    within the bound.

    Args:
      log_prob: of the policy.
      params: of the policy.
      contexts: [contexts, context].
      scores: [contexts, item].
      settings: see there.

    Returns:
      (parameters, what the step did).
    """
    flat, unravel = ravel_pytree(params)
    old = jax.lax.stop_gradient(log_prob(params, contexts))
    # A constant per context changes no expected difference; without it outliers cost fewer digits.
    centred = scores - jnp.sum(jnp.exp(old) * scores, axis=-1, keepdims=True)
    # Centred scores carry the rounding of what they were: a gain is one only beside the size of the scores themselves.
    least = losses.rounding_of(jnp.mean(jnp.sum(jnp.exp(old) * jnp.abs(scores), axis=-1)))

    def gain(vector: Array) -> tuple[Array, Array]:
        new = log_prob(unravel(vector), contexts)
        surrogate = jnp.mean(jnp.sum(jnp.exp(new) * centred, axis=-1))
        return surrogate, jnp.mean(jnp.sum(jnp.exp(old) * (old - new), axis=-1))

    gradient = jax.grad(lambda vector: gain(vector)[0])(flat)
    few = contexts[: max(1, round(settings.fisher_share * contexts.shape[0]))]
    fisher = _fisher_products(lambda vector: log_prob(unravel(vector), few), flat)
    # The direction is the same for every scale of the gradient, and squares of large ones are not finite.
    unit = gradient / jnp.maximum(jnp.linalg.norm(gradient), 1e-30)
    direction = conjugate_gradient(lambda x: fisher(x) + settings.damping * x, unit, settings.products)
    longest = jnp.sqrt(2.0 * settings.bound / jnp.maximum(direction @ fisher(direction), 1e-12))
    return _search(flat, longest * direction, gain, least, unravel, settings)


def _fisher_products(log_prob: Callable[[Array], Array], vector: Array) -> Callable[[Array], Array]:
    """Products with the mean Fisher matrix `J' (diag(p) - p p') J` of the logits, linearised once."""
    value, forward = jax.linearize(log_prob, vector)
    backward = jax.linear_transpose(forward, vector)
    weight = jnp.exp(value) / value.shape[0]

    # The derivative of log-probabilities has mean 0 under p, so that J' diag(p) J of them is all.
    def product(x: Array) -> Array:
        found: Array = backward(weight * forward(x))[0]
        return found

    return product


def _search(
    flat: Array,
    longest: Array,
    gain: Callable[[Array], tuple[Array, Array]],
    least: Array,
    unravel: Callable[[Array], Any],
    settings: TrustRegion,
) -> tuple[Any, Step]:
    begin = gain(flat)[0]

    def attempt(found: Step, power: Array) -> tuple[Step, None]:
        length = settings.shrink**power
        reached, divergence = gain(flat + length * longest)
        good = (reached - begin > least) & (divergence <= settings.bound) & (found.length == 0.0)
        tried = Step(reached - begin, divergence, length)
        return jax.tree.map(lambda new, old: jnp.where(good, new, old), tried, found), None

    nothing = Step(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))
    step, _ = jax.lax.scan(attempt, nothing, jnp.arange(settings.lengths, dtype=jnp.float32))
    return unravel(flat + step.length * longest), step
