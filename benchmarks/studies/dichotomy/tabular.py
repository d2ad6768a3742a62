"""Methods as tables, trained on the exact objective of the data: what each leads to, optimisation and networks aside.

Nothing is sampled but the data: posterior over latents, policy, value and energy are tables, and all sums run over the states,
actions and outcomes that the data has. An outcome is what the environment decides: a reward of the bandit, a next state of the
lake. A latent is made of the present action and its outcome. The tables are trained with the constraint as the equations have
it, or with the sign of the code that was published, under which the posterior is pushed to know more of luck.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from maxent_rl.losses import energy_term

LEARNING_RATE, OUTER, INNER = 0.05, 8_000, 5
_LEAST_PRIOR = 0.01  # a latent that is rarer is not among a hundred draws from the prior


class Law(NamedTuple):
    """What the data says.

    Attributes:
      joint: [state, action, outcome] how often each is.
      paid: [state, action, outcome] the mean return from there on; 0 where there is none.
      lucky: [state, action] how often each is among the steps that had the largest return still before them.
    """

    joint: np.ndarray
    paid: np.ndarray
    lucky: np.ndarray


class Found(NamedTuple):
    """What one seed came to.

    Attributes:
      policy: [state, action] under the latent of highest value.
      promised: [state] that value.
      information: MI(outcome; latent | state, action), in nats.
      energy: the energy term.
    """

    policy: Array
    promised: Array
    information: Array
    energy: Array


def bandit_law(probability: float) -> Law:
    """The bandit of infinite data: arm 0 is taken with 1 - p and pays with p, arm 1 the other way round."""
    pays = np.array([probability, 1 - probability])
    joint = (pays[::-1, None] * np.stack([1 - pays, pays], axis=1))[None]
    return Law(joint, np.broadcast_to([0.0, 1.0], joint.shape).copy(), joint[..., 1])


def _tables(key: Array, shape: tuple[int, int, int], latents: int) -> tuple[dict[str, Array], Array]:
    states, actions, outcomes = shape
    sizes = {
        "posterior": (states, actions, outcomes, latents),
        "policy": (states, latents, actions),
        "value": (states, latents),
        "energy": (states, actions, outcomes, latents),
    }
    keys = jax.random.split(key, len(sizes))
    made = {
        name: jax.random.truncated_normal(own, -2.0, 2.0, size)
        for own, (name, size) in zip(keys, sizes.items(), strict=True)
    }
    return made, made.pop("energy")


def _losses(tables: dict[str, Array], law: Law) -> Array:
    """What policy and value lose."""
    posterior = law.joint[..., None] * jax.nn.softmax(tables["posterior"])  # [state, action, outcome, latent]
    imitation = -jnp.einsum("saoz,sza->", posterior, jax.nn.log_softmax(tables["policy"]))
    gap = tables["value"][:, None, None] - law.paid[..., None]
    lost: Array = imitation + jnp.sum(posterior * gap**2)
    return lost


def _term(tables: dict[str, Array], energy: Array, law: Law) -> Array:
    posterior = law.joint[..., None] * jax.nn.softmax(tables["posterior"])
    rho = jnp.sum(law.joint, axis=(0, 1))
    log_rho = jnp.where(rho > 0, jnp.log(jnp.where(rho > 0, rho, 1.0)), -jnp.inf)
    sampled = jnp.moveaxis(energy, 2, -1)[:, :, None]  # [state, action, 1, latent, outcome]
    return jnp.sum(posterior * energy_term(energy, sampled, log_rho))


def _rate(tables: dict[str, Array], law: Law) -> Array:
    """The divergence of the posterior from the best prior of each state: what a VAE pays."""
    log_posterior, joint = jax.nn.log_softmax(tables["posterior"]), law.joint[..., None]
    return jnp.sum(joint * jnp.exp(log_posterior) * (log_posterior - jnp.log(_prior(tables, law))[:, None, None]))


def _prior(tables: dict[str, Array], law: Law) -> Array:
    """[state, latent]: the posterior's mean, which the divergence's descent ends at."""
    posterior = law.joint[..., None] * jax.nn.softmax(tables["posterior"])
    total = jnp.sum(posterior, axis=(1, 2, 3))[:, None]
    prior: Array = (jnp.sum(posterior, axis=(1, 2)) + 1e-12) / (total + 1e-12 * posterior.shape[-1])
    return prior


@partial(jax.jit, static_argnames=("latents", "outer", "inner"))
def train(
    key: Array, law: Law, beta: float, rate: float, latents: int, outer: int = OUTER, inner: int = INNER
) -> Found:
    """Trains one seed.

    Args:
      key: decides the tables to begin with.
      law: of the data.
      beta: weight of the constraint; below 0 for the sign of the published code.
      rate: weight with which the posterior's divergence from the prior is descended: Future-VAE.
      latents: number of them.
      outer: descents of posterior, policy and value.
      inner: ascents of the energy before each.
    """
    adam = optax.adam(LEARNING_RATE)
    tables, energy = _tables(key, law.joint.shape, latents)

    def loss(tables: dict[str, Array], energy: Array) -> Array:
        return _losses(tables, law) + beta * _term(tables, energy, law) + rate * _rate(tables, law)

    def outer_step(_: Array, carry: Any) -> Any:
        tables, energy, own, others = carry

        def ascend(_: Array, carry: Any) -> Any:
            energy, state = carry
            step, state = adam.update(jax.grad(lambda energy: -_term(tables, energy, law))(energy), state)
            return energy + step, state

        energy, others = jax.lax.fori_loop(0, inner, ascend, (energy, others))
        step, own = adam.update(jax.grad(loss)(tables, energy), own)
        return optax.apply_updates(tables, step), energy, own, others

    start = (tables, energy, adam.init(tables), adam.init(energy))
    tables, energy, _, _ = jax.lax.fori_loop(0, outer, outer_step, start)
    return _measure(tables, energy, law)


def _measure(tables: dict[str, Array], energy: Array, law: Law) -> Found:
    value = jnp.where(_prior(tables, law) > _LEAST_PRIOR, tables["value"], -jnp.inf)
    best = jnp.argmax(value, axis=1)[:, None]
    policy = jnp.take_along_axis(jax.nn.softmax(tables["policy"]), best[..., None], axis=1)[:, 0]
    with_latent = law.joint[..., None] * jax.nn.softmax(tables["posterior"])
    of_outcome = with_latent / jnp.maximum(jnp.sum(with_latent, axis=2, keepdims=True), 1e-30)
    without = law.joint / jnp.maximum(jnp.sum(law.joint, axis=2, keepdims=True), 1e-30)
    seen = with_latent > 0
    told = jnp.log(jnp.where(seen, of_outcome, 1.0)) - jnp.log(jnp.where(seen, without[..., None], 1.0))
    promised = jnp.take_along_axis(value, best, axis=1)[:, 0]
    return Found(policy, promised, jnp.sum(with_latent * told), _term(tables, energy, law))


def train_seeds(laws: list[Law], beta: float, rate: float, latents: int, **further: int) -> Found:
    """As `train`, one seed for each law, at once: each number is [seed, ...]."""
    stacked = jax.tree.map(lambda *each: jnp.asarray(np.stack(each), jnp.float32), *laws)
    keys = jax.random.split(jax.random.key(0), len(laws))
    trained: Found = jax.vmap(lambda key, law: train(key, law, beta, rate, latents, **further))(keys, stacked)
    return trained
