"""A policy that is a table, and how it learns by any objective of the library.

The policy has logits for every prompt, place and state of a response, so there is nothing that a network could or could not
learn: what is seen is what the objectives do. Prompts may share their logits by features, where a claim is about what one
prompt teaches of another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from maxent_rl import losses
from maxent_rl.tokens import TokenBatch, TokenOutputs
from maxent_rl.tokens.objectives import Objective

Judge = Callable[[Array, Array, Array, Array], Array]
"""(prompts [N], tokens [N, T], mask [N, T], key) to rewards [N]."""


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """What is asked, and how responses are judged.

    Attributes:
      logits: [prompt or feature, place, state, symbol] where learning begins.
      judge: rewards of responses.
      features: [prompt, feature]; None where every prompt has logits of its own.
      states: what a place knows of the tokens before it: their sum modulo so many; 1 for nothing.
      end: the symbol that ends a response; None for responses that have all places.
      task: [prompt] whole numbers.
    """

    logits: np.ndarray
    judge: Judge
    features: np.ndarray | None = None
    states: int = 1
    end: int | None = None
    task: np.ndarray | None = None

    @property
    def prompts(self) -> int:
        """How many prompts there are; all of them are in every batch."""
        return len(self.logits if self.features is None else self.features)


@dataclasses.dataclass(frozen=True)
class Training:
    """How long, and in which steps, a policy learns.

    Attributes:
      group: responses to each prompt.
      iterations: batches.
      epochs: optimiser steps on each, all of it at a time.
      learning_rate: of Adam.
    """

    group: int = 16
    iterations: int = 200
    epochs: int = 1
    learning_rate: float = 0.05


def scores(world: World, params: Array, prompts: Array, tokens: Array) -> Array:
    """[N, T, V] log-probabilities of all symbols where each token of responses stands."""
    before = jnp.cumsum(tokens, axis=1) - tokens
    state = before % world.states
    table = params if world.features is None else jnp.einsum("pf,ftsv->ptsv", jnp.asarray(world.features), params)
    return jax.nn.log_softmax(table[prompts[:, None], jnp.arange(tokens.shape[1]), state])


def answered(
    world: World, params: Array, prompts: Array, key: Array, temperature: Callable[[Array], Array] | None = None
) -> tuple[Array, Array, Array]:
    """Draws responses: (tokens [N, T], mask [N, T], log-probabilities under what was drawn from [N, T])."""
    length = params.shape[1]
    tokens = jnp.zeros((len(prompts), length), jnp.int32)
    drawn = []
    for place, place_key in enumerate(jax.random.split(key, length)):
        log_probs = scores(world, params, prompts, tokens)[:, place]
        if temperature is not None:
            log_probs = jax.nn.log_softmax(log_probs / temperature(losses.softmax_entropy(log_probs))[:, None])
        chosen = jax.random.categorical(place_key, log_probs)
        drawn.append(jnp.take_along_axis(log_probs, chosen[:, None], axis=-1)[:, 0])
        tokens = tokens.at[:, place].set(chosen)
    mask = jnp.ones(tokens.shape, bool)
    if world.end is not None:
        ends = (tokens == world.end).astype(jnp.int32)
        mask = jnp.cumsum(ends, axis=1) - ends == 0
    return tokens, mask, jnp.stack(drawn, axis=1)


def said(world: World, params: Array, prompts: Array, tokens: Array) -> TokenOutputs:
    """What the policy says of responses."""
    log_probs = scores(world, params, prompts, tokens)
    logp = jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
    return TokenOutputs(logp, losses.softmax_entropy(log_probs))


def collected(
    world: World, objective: Objective, state: Any, params: Array, group: int, key: Array, reference: Array
) -> tuple[TokenBatch, Array]:
    """(batch, prompts [N]): a group of responses to every prompt, as the objective wants them drawn."""
    draw_key, judge_key = jax.random.split(key)
    prompts = jnp.repeat(jnp.arange(world.prompts), group)
    tokens, mask, drawn = answered(world, params, prompts, draw_key, objective.sampling(state).temperature)
    before = said(world, params, prompts, tokens)
    answers = jnp.sum(jnp.where(mask, tokens, 0) * 31 ** jnp.arange(tokens.shape[1]), axis=1)
    batch = TokenBatch(
        logp_old=before.logp,
        mask=mask,
        rewards=world.judge(prompts, tokens, mask, judge_key),
        group_size=group,
        tokens=tokens,
        entropy_old=before.entropy,
        logp_ref=said(world, reference, prompts, tokens).logp,
        task=None if world.task is None else jnp.asarray(world.task)[prompts],
        answers=answers.astype(jnp.int32),
        logp_drawn=drawn,
    )
    return batch, prompts


Probe = Callable[[World, Objective, Any, Array, TokenBatch, Array], dict[str, Array]]
"""Measures, before each batch is learned from: (world, objective, its state, params, batch, prompts) to numbers []."""


@partial(jax.jit, static_argnames=("world", "training", "probe"))
def trained(
    world: World, objective: Objective, training: Training, keys: Array, probe: Probe | None = None
) -> tuple[Array, dict[str, Array]]:
    """Learns with each key, side by side.

    Args:
      world: what is asked.
      objective: what is learned by.
      training: how long.
      keys: [seed] random keys.
      probe: what else is measured.

    Returns:
      (params [seed, ...], course: numbers [seed, iteration] by name).
    """
    optimizer = optax.adam(training.learning_rate)
    begin = jnp.asarray(world.logits, jnp.float32)

    def iteration(carry: tuple[Any, ...], key: Array) -> tuple[tuple[Any, ...], dict[str, Array]]:
        params, moments, state = carry
        batch, prompts = collected(world, objective, state, params, training.group, key, begin)
        measured = {} if probe is None else probe(world, objective, state, params, batch, prompts)
        measured |= {
            "reward": jnp.mean(batch.rewards),
            "entropy": losses.masked_mean(batch.entropy_old, batch.mask),  # type: ignore[arg-type]
            "length": jnp.mean(jnp.sum(batch.mask, axis=1)),
        }
        tokens = batch.tokens
        assert tokens is not None
        state, batch = objective.prepare(state, batch)

        def step(carry: tuple[Any, ...], _: None) -> tuple[tuple[Any, ...], dict[str, Array]]:
            params, moments, state = carry

            def loss(params: Array) -> Any:
                return objective(state, said(world, params, prompts, tokens), batch)

            slope, aux = jax.grad(loss, has_aux=True)(params)
            updates, moments = optimizer.update(slope, moments)
            return (optax.apply_updates(params, updates), moments, aux.state), aux.metrics

        carry, metrics = jax.lax.scan(step, (params, moments, state), None, training.epochs)
        means = {name: jnp.mean(values) for name, values in metrics.items() if name.split("/")[0] in _KEPT}
        return carry, measured | means

    def seed(key: Array) -> tuple[Array, dict[str, Array]]:
        state = objective.init(jax.random.fold_in(key, 0))
        keys = jax.random.split(jax.random.fold_in(key, 1), training.iterations)
        (params, _, _), course = jax.lax.scan(iteration, (begin, optimizer.init(begin), state), keys)
        return params, course

    return jax.vmap(seed)(keys)


_KEPT = ("policy", "balance", "clipped", "ares", "copo", "band", "hapo")
