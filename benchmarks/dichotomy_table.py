"""The bandit's tables, trained on the exact expected objective: what each weight of the constraint leads to.

Nothing is sampled: the posterior over four latents, the policy and the energy are tables of logits, and all sums run over the
four outcomes (action, reward). `descended` has the constraint as the equations have it, or with the sign of the code that was
published, under which the posterior is pushed to know more of luck.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from maxent_rl.losses import energy_term

LATENTS = 4
LEARNING_RATE, OUTER, INNER = 0.05, 8_000, 5


class Found(NamedTuple):
    """What one seed came to.

    Attributes:
      reward: of the policy under the latent of highest value.
      information: MI(r; z | a), in nats.
      energy: the energy term.
      promised: the value of that latent.
    """

    reward: Array
    information: Array
    energy: Array
    promised: Array


def joint(probability: Array | float) -> Array:
    """[action, reward] of the data: arm 0 is taken with 1 - p and pays with p, arm 1 the other way round."""
    p = jnp.asarray(probability)
    pays = jnp.stack([p, 1 - p])
    return pays[::-1][:, None] * jnp.stack([1 - pays, pays], axis=1)


def _terms(tables: dict[str, Array], energy: Array, law: Array) -> tuple[Array, Array]:
    """What policy and value lose, and the energy term, both as exact expectations."""
    posterior = law[..., None] * jax.nn.softmax(tables["posterior"])  # [action, reward, latent]
    policy, value = jax.nn.log_softmax(tables["policy"]), jax.nn.log_softmax(tables["value"])
    imitation = -jnp.einsum("arz,za->", posterior, policy) - jnp.einsum("arz,zr->", posterior, value)
    log_rho = jnp.log(jnp.sum(law, axis=0))
    sampled = jnp.moveaxis(energy, 1, -1)[:, None]  # [action, 1, latent, reward]
    return imitation, jnp.sum(posterior * energy_term(energy, sampled, log_rho))


@partial(jax.jit, static_argnames=("outer", "inner", "ascended"))
def train(
    key: Array, probability: float, beta: float, outer: int = OUTER, inner: int = INNER, *, ascended: bool = False
) -> Found:
    """Trains one seed.

    Args:
      key: decides the tables to begin with.
      probability: the bandit's.
      beta: weight of the constraint.
      outer: descents of posterior, policy and value.
      inner: ascents of the energy before each.
      ascended: the published code's sign: the posterior ascends the energy term too.
    """
    law, adam = joint(probability), optax.adam(LEARNING_RATE)
    shapes = {"posterior": (2, 2, LATENTS), "policy": (LATENTS, 2), "value": (LATENTS, 2)}
    keys = jax.random.split(key, 4)
    tables = {
        name: jax.random.truncated_normal(own, -2.0, 2.0, shape)
        for own, (name, shape) in zip(keys, shapes.items(), strict=False)
    }
    energy = jax.random.truncated_normal(keys[3], -2.0, 2.0, (2, 2, LATENTS))
    weight = -beta if ascended else beta

    def loss(tables: dict[str, Array], energy: Array) -> Array:
        imitation, term = _terms(tables, energy, law)
        return imitation + weight * term

    def outer_step(_: Array, carry: tuple) -> tuple:
        tables, energy, own, others = carry

        def ascend(_: Array, carry: tuple) -> tuple:
            energy, state = carry
            slope = jax.grad(lambda energy: -_terms(tables, energy, law)[1])(energy)
            step, state = adam.update(slope, state)
            return energy + step, state

        energy, others = jax.lax.fori_loop(0, inner, ascend, (energy, others))
        step, own = adam.update(jax.grad(loss)(tables, energy), own)
        return optax.apply_updates(tables, step), energy, own, others

    start = (tables, energy, adam.init(tables), adam.init(energy))
    tables, energy, _, _ = jax.lax.fori_loop(0, outer, outer_step, start)
    return _measure(tables, energy, law, probability)


def _measure(tables: dict[str, Array], energy: Array, law: Array, probability: float) -> Found:
    value = jax.nn.softmax(tables["value"])[:, 1]
    best = jnp.argmax(value)
    policy = jax.nn.softmax(tables["policy"])[best]
    with_latent = law[..., None] * jax.nn.softmax(tables["posterior"])
    of_reward = with_latent / jnp.sum(with_latent, axis=1, keepdims=True)
    told = jnp.log(of_reward) - jnp.log(law / jnp.sum(law, axis=1, keepdims=True))[..., None]
    return Found(
        policy[0] * probability + policy[1] * (1 - probability),
        jnp.sum(with_latent * told),
        _terms(tables, energy, law)[1],
        value[best],
    )


def train_seeds(seeds: int, probability: float, beta: float, *, ascended: bool = False) -> Found:
    """As `train`, of the first seeds, at once: each number is [seed]."""
    keys = jax.random.split(jax.random.key(0), seeds)
    one = partial(train, probability=probability, beta=beta, ascended=ascended)
    return jax.vmap(lambda key: one(key))(keys)
