"""The natural gradient: the step that raises the objective most for what it changes in the policy, not in its parameters.

Source: A Natural Policy Gradient (NeurIPS 2001), with conjugate gradients and a step of given divergence as in Trust Region
Policy Optimization (arXiv 1502.05477), appendix C.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from maxent_rl.types import Array, PyTree


def natural_step(
    gradient: PyTree,
    log_prob: Callable[[PyTree], Array],
    parameters: PyTree,
    divergence: Array | float,
    damping: Array | float,
    iterations: int,
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

    Returns:
      The change, a pytree like the parameters; zeros where the gradient is 0.
    """
    _, transposed = jax.vjp(log_prob, parameters)

    def fisher(direction: PyTree) -> PyTree:
        scores = jax.jvp(log_prob, (parameters,), (direction,))[1]
        (product,) = transposed(scores / scores.size)
        return jax.tree.map(lambda own, kept: own + damping * kept, product, direction)

    direction, _ = cg(fisher, gradient, maxiter=iterations)  # type: ignore[no-untyped-call]
    curvature = sum(
        jnp.vdot(own, other)
        for own, other in zip(jax.tree.leaves(direction), jax.tree.leaves(fisher(direction)), strict=True)
    )
    length = jnp.sqrt(2.0 * divergence / jnp.maximum(curvature, 1e-30)) * (curvature > 0)
    return jax.tree.map(lambda leaf: -length * leaf, direction)
