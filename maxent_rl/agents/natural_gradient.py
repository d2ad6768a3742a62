"""The natural gradient: the step that raises the objective most for what it changes in the policy, not in its parameters.

Source: A Natural Policy Gradient (NeurIPS 2001), with conjugate gradients and a step of given divergence as in Trust Region
Policy Optimization (arXiv 1502.05477), appendix C.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from maxent_rl import losses
from maxent_rl.types import Array, PyTree


def natural_step(
    gradient: PyTree,
    log_prob: Callable[[PyTree], Array],
    parameters: PyTree,
    divergence: Array | float,
    damping: Array | float,
    iterations: int,
    size: Array | float = 0.0,
) -> PyTree:
    """The change of parameters down a loss that moves the policy by a given divergence.

    The Fisher matrix F is that of the sampled actions: the mean of the scores' outer products.

    Args:
      gradient: of the loss, a pytree like the parameters.
      log_prob: takes parameters to the log-probabilities [...] of actions that the policy itself drew, in nats.
      parameters: of the policy.
      divergence: [] nats by which a step moves the policy, to second order: `step' F step / 2`.
      damping: [] added to the diagonal of F.
      iterations: of conjugate gradients.
      size: [] of what the loss averages, each times a score: a gradient that is no longer than the rounding of it is none,
        however far a step along it would be.

    Returns:
      The change, a pytree like the parameters; zeros where the gradient is 0, or may be rounding.
    """
    flat, shape = ravel_pytree(parameters)
    slope, _ = ravel_pytree(gradient)
    slope = jnp.where(jnp.linalg.norm(slope) < losses.rounding_of(size), 0.0, slope)

    def flat_log_prob(vector: Array) -> Array:
        return log_prob(shape(vector)).ravel()

    _, transposed = jax.vjp(flat_log_prob, flat)

    def fisher(direction: Array) -> Array:
        scores = jax.jvp(flat_log_prob, (flat,), (direction,))[1]
        product: Array = transposed(scores / len(scores))[0]
        return product + damping * direction

    direction = conjugate_gradient(fisher, slope, iterations)
    curvature = jnp.vdot(direction, fisher(direction))
    # Exactly 0 where the slope is.
    length = jnp.sqrt(2.0 * divergence / jnp.maximum(curvature, 1e-30)) * (curvature > 0)
    step: PyTree = shape(-length * direction)
    return step


def conjugate_gradient(product: Callable[[Array], Array], right: Array, iterations: int) -> Array:
    """Solves `product(x) = right` for a symmetric positive definite matrix, in a fixed number of iterations.

    `jax.scipy.sparse.linalg.cg` does not serve inside a training loop: on CPUs its compiled loop gave other numbers in every
    run, NaN among them (jax 0.10.2).

    Args:
      product: of the matrix with a vector [n].
      right: [n].
      iterations: how many; it stays where it is once the residual is 0, and goes along no direction whose curvature is lost
        in rounding, as where the matrix has none along it.

    Returns:
      [n].
    """

    def step(_: int, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        solution, residual, direction, size, steepest = carry
        along = product(direction)
        curvature, square = jnp.vdot(direction, along), jnp.vdot(direction, direction)
        steepest = jnp.maximum(steepest, curvature / jnp.maximum(square, 1e-30))
        # A residual of rounding alone leads where the matrix may have no curvature: divided by what rounding leaves of 0
        # there, or by less than 0, the step would be as long as that is small.
        followed = curvature > losses.rounding_of(steepest) * square
        rate = jnp.where(followed, size / jnp.maximum(curvature, 1e-30), 0.0)
        solution, residual = solution + rate * direction, residual - rate * along
        left = jnp.vdot(residual, residual)
        return solution, residual, residual + left / jnp.maximum(size, 1e-30) * direction, left, steepest

    start = (jnp.zeros_like(right), right, right, jnp.vdot(right, right), jnp.zeros((), right.dtype))
    solution: Array = jax.lax.fori_loop(0, iterations, step, start)[0]
    return solution
