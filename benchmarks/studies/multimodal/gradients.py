"""A router's gradient estimates against the exact gradient, where it is known.

The bandit maxent/FourOptima and four fixed tanh-Gaussian experts; the router's logits are all that could learn. The exact
gradient of the expected cost `sum_k w_k E[alpha log p_k(a) - q(a)]`, a from expert k, comes from quadrature. Each estimator is
one of the library's losses, differentiated at many draws; a draw is one sample of every expert and one choice. For each:

    bias                  |mean - exact| / |exact|
    standard error        of the mean, in the same unit: what the bias of an unbiased estimator looks like
    cosine                of mean and exact: whether the mean points the right way, whatever its length
    deviation             root of the covariance's trace / |exact|: the noise of a single draw
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.lab.measure import versions
from benchmarks.lab.study import Measured, Seed, Unit
from maxent_rl import losses
from maxent_rl.distributions import TanhGaussian
from maxent_rl.envs.maxent import make_maxent

BANDIT = make_maxent("FourOptima")
# One expert near each optimum, near enough to matter and not equally good: before squashing.
EXPERTS = TanhGaussian(
    mean=jnp.array([[0.50, 0.55], [-0.60, 0.45], [0.40, -0.65], [-0.55, -0.50]]),
    log_std=jnp.log(jnp.array([[0.15, 0.15], [0.30, 0.10], [0.20, 0.20], [0.35, 0.35]])),
)
LOGITS = jnp.array([0.0, 0.5, -0.5, 0.2])
TEMPERATURE = 0.1
_PACKAGES = ("maxent_rl", "jax", "jaxlib", "numpy")
_NODES, _EDGE = 401, 8.0  # of the quadrature over each expert's noise; the trapezoid rule is exact to rounding here


class Draw(NamedTuple):
    """What one draw gives an estimator: values q [expert], costs [expert], actions and their log-densities, and a key."""

    q: jax.Array
    cost: jax.Array
    action: jax.Array
    log_prob: jax.Array
    key: jax.Array


Loss = Callable[[jax.Array, Draw], jax.Array]
"""A loss [] of the logits [expert], whose gradient is an estimate."""


def frequency(logits: jax.Array, draw: Draw) -> jax.Array:
    return losses.router_frequency_loss(logits, jnp.argmax(draw.q))


def score(logits: jax.Array, draw: Draw) -> jax.Array:
    return losses.router_score_loss(logits, jax.random.categorical(draw.key, logits), draw.cost)


def exact(logits: jax.Array, draw: Draw, temperature: float = 0.0) -> jax.Array:
    return losses.router_exact_loss(logits, draw.cost, temperature)


def gumbel(logits: jax.Array, draw: Draw, relaxation: float, hard: bool) -> jax.Array:
    weights = losses.gumbel_softmax(logits, jax.random.gumbel(draw.key, logits.shape), relaxation, hard)
    return losses.soft_policy_loss(BANDIT.value(weights @ draw.action), weights @ draw.log_prob, TEMPERATURE)


LOSSES: dict[str, Loss] = {
    "frequency": frequency,
    "frequency, for its own target": frequency,
    "score": score,
    "exact": exact,
    "exact, with the router's entropy": partial(exact, temperature=TEMPERATURE),
    "gumbel, relaxation 1": partial(gumbel, relaxation=1.0, hard=False),
    "gumbel, relaxation 0.2": partial(gumbel, relaxation=0.2, hard=False),
    "straight-through, relaxation 1": partial(gumbel, relaxation=1.0, hard=True),
    "straight-through, relaxation 0.2": partial(gumbel, relaxation=0.2, hard=True),
}
"""By name of the estimator, the loss that is differentiated."""


def measure_gradient(unit: Unit) -> Measured:
    """Holds an estimator against the exact gradient, once for each seed."""
    target = targets()[unit.measured["target"]]
    seeds = [
        Seed(seed, compare(gradients(LOSSES[unit.contender], seed, unit.measured["draws"]), target), {})
        for seed in range(unit.measured["seeds"])
    ]
    return Measured(seeds, versions(*_PACKAGES))


def targets() -> dict[str, np.ndarray]:
    """Exact gradients in the logits [expert], by quadrature over each expert's noise.

    "cost" is that of the expected cost, "cost and entropy" with the router's entropy, and "frequency" that of the mean over
    experts of `(f - w)^2`, f being how often each expert's value is the highest.
    """
    nodes = np.linspace(-_EDGE, _EDGE, _NODES)
    density = np.exp(-0.5 * nodes**2)
    weights = np.outer(density, density).ravel() / density.sum() ** 2
    noise = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    action, log_prob = EXPERTS.from_noise(jnp.float32(noise))
    q = np.float64(BANDIT.value(action))
    cost = jnp.float32(weights @ (TEMPERATURE * np.float64(log_prob) - q))
    best = jnp.float32(_frequencies(q, weights))
    return {
        "cost": np.asarray(jax.grad(losses.router_exact_loss)(LOGITS, cost)),
        "cost and entropy": np.asarray(jax.grad(losses.router_exact_loss)(LOGITS, cost, TEMPERATURE)),
        "frequency": np.asarray(jax.grad(lambda x: jnp.mean((best - jax.nn.softmax(x)) ** 2))(LOGITS)),
    }


def _frequencies(q: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How often each expert's independent value is the highest, of values [node, expert] and the nodes' probabilities."""
    order = np.argsort(q, axis=0)
    below = []  # of each expert: the probability of a lower value, as a function
    for expert, rows in enumerate(order.T):
        cumulative = np.concatenate([[0.0], np.cumsum(weights[rows])])
        below.append((q[rows, expert], 0.5 * (cumulative[1:] + cumulative[:-1])))
    found = []
    for expert in range(q.shape[1]):
        others = [
            np.interp(q[:, expert], *below[other], left=0.0, right=1.0)
            for other in range(q.shape[1])
            if other != expert
        ]
        found.append(weights @ np.prod(others, axis=0))
    return np.array(found) / np.sum(found)


def gradients(loss: Loss, seed: int, draws: int) -> np.ndarray:
    """Estimates [draws, expert] of the gradient in the logits."""
    return np.float64(_gradients(loss, jax.random.split(jax.random.key(seed), draws)))


@partial(jax.jit, static_argnames="loss")
def _gradients(loss: Loss, keys: jax.Array) -> jax.Array:
    return jax.vmap(lambda key: jax.grad(loss)(LOGITS, _draw(key)))(keys)


def _draw(key: jax.Array) -> Draw:
    noise_key, choice_key = jax.random.split(key)
    action, log_prob = EXPERTS.from_noise(jax.random.normal(noise_key, EXPERTS.mean.shape))
    q = BANDIT.value(action)
    return Draw(q, losses.soft_policy_loss(q, log_prob, TEMPERATURE), action, log_prob, choice_key)


def compare(estimates: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Bias, its standard error, cosine and deviation of estimates [draws, expert]; see the top of this file."""
    mean, length = estimates.mean(axis=0), float(np.linalg.norm(target))
    spread = float(np.sqrt(np.sum(estimates.var(axis=0, ddof=1))))
    return {
        "bias": float(np.linalg.norm(mean - target)) / length,
        "standard_error": spread / np.sqrt(len(estimates)) / length,
        "cosine": float(mean @ target / (np.linalg.norm(mean) * length)),
        "deviation": spread / length,
    }
