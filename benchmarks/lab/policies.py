"""Small language models of several seeds that begin, imitate and learn side by side, each step one program.

Seed s of every contender is posed the same prompts: what is drawn depends on its key, and on the number of the iteration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.tokens.agent import TokenAgent, TokenState
from maxent_rl.tokens.tasks import TokenTask
from maxent_rl.training.compilation import compiler_options
from maxent_rl.types import Array, Metrics, PyTree, Spec

LEARN_STREAM, EVALUATION_STREAM, WARM_STREAM = 1, 2, 3
jit = partial(jax.jit, compiler_options=compiler_options())
"""With the compiler's options that trainings have."""


@partial(jax.jit, static_argnames="spec")
def first(agent: TokenAgent, spec: Spec, keys: Array) -> PyTree:
    """The parameters [seed, ...] that seeds begin with."""
    return jax.vmap(lambda key: agent.init(key, spec).params)(keys)


@partial(jax.jit, static_argnames="spec")
def begin(agent: TokenAgent, spec: Spec, keys: Array, params: PyTree, reference: PyTree | None) -> TokenState:
    """States with these parameters, and this teacher or reference where they have one."""
    states = dataclasses.replace(jax.vmap(lambda key: agent.init(key, spec))(keys), params=params)
    if states.teacher is not None:
        states = dataclasses.replace(states, teacher=dataclasses.replace(states.teacher, params=reference))
    return states if states.reference is None else dataclasses.replace(states, reference=reference)


@partial(jit, static_argnames=("task", "batches", "count"))
def imitate(
    agent: TokenAgent,
    states: TokenState,
    keys: Array,
    task: TokenTask[Any],
    stream: int,
    first: int,
    batches: int,
    count: int,
) -> tuple[TokenState, Array]:
    """Imitates batches of `count` demonstrations, from number `first` of a stream of them on.

    Returns:
      (states, mean loss [seed] in nats per token).
    """

    def one(state: TokenState, key: Array) -> tuple[TokenState, Array]:
        key = jax.random.fold_in(jax.random.fold_in(key, WARM_STREAM), stream)

        def step(carry: TokenState, number: Array) -> tuple[TokenState, Array]:
            carry, metrics = agent.imitate(carry, task, jax.random.fold_in(key, number), count)
            return carry, metrics["supervised/loss"]

        state, values = jax.lax.scan(step, state, first + jnp.arange(batches))
        return state, jnp.mean(values)

    return jax.vmap(one)(states, keys)


@partial(jit, static_argnames=("task", "steps", "count"))
def reinforce(
    agent: TokenAgent, states: TokenState, keys: Array, task: TokenTask[Any], first: int, steps: int, count: int
) -> tuple[TokenState, Metrics]:
    """Some iterations of reinforcement of `count` responses each, from number `first` on.

    Returns:
      (states, mean metrics [seed]).
    """

    def one(state: TokenState, key: Array) -> tuple[TokenState, Metrics]:
        key = jax.random.fold_in(key, LEARN_STREAM)

        def step(carry: TokenState, number: Array) -> tuple[TokenState, Metrics]:
            return agent.reinforce(carry, task, jax.random.fold_in(key, number), count)

        state, metrics = jax.lax.scan(step, state, first + jnp.arange(steps))
        return state, jax.tree.map(partial(jnp.mean, axis=0), metrics)

    return jax.vmap(one)(states, keys)


def followed(
    agent: TokenAgent,
    states: TokenState,
    keys: Array,
    task: TokenTask[Any],
    *,
    iterations: int,
    points: int,
    count: int,
    look: Callable[[TokenState], Metrics],
    kept: Mapping[str, str],
) -> dict[str, np.ndarray]:
    """Iterations of `count` responses, looked at before them and at points evenly over them.

    Args:
      agent: that learns.
      states: of its seeds.
      keys: [seed] random keys.
      task: what is learned.
      iterations: of reinforcement in all.
      points: evaluations after the first.
      count: responses of an iteration.
      look: an evaluation.
      kept: metrics of the iterations that are kept, where there are any, and what they are called.

    Returns:
      By name, numbers [point, seed]: of evaluations and of the iterations before each, the first one before any.
    """
    every = iterations // points
    found = [look(states)]
    for point in range(points):
        states, metrics = reinforce(agent, states, keys, task, point * every, every, count)
        found.append({title: metrics[name] for name, title in kept.items() if name in metrics} | look(states))
    found[0] |= {name: value for name, value in found[1].items() if name not in found[0]}
    return {name: np.stack([np.asarray(each[name]) for each in found]) for name in found[0]}


def summary(curves: dict[str, np.ndarray]) -> dict[str, float]:
    """Numbers of curves [point], of which the first point is before all learning.

    Returns:
      Of each curve: "first"; "early", the mean over the first quarter of the others; "half" and "end", the means of the two
      points there; and "fall", how far the end lies below the best two neighbours.
    """
    found = {}
    for name, values in curves.items():
        count = len(values) - 1
        pairs = (values[1:-1] + values[2:]) / 2 if count > 1 else values[1:]
        half = count // 2
        numbers = {
            "first": values[0],
            "early": np.mean(values[1 : 1 + max(1, count // 4)]),
            "half": np.mean(values[half : half + 2]),
            "end": pairs[-1],
            "fall": np.max(pairs) - pairs[-1],
        }
        found |= {f"{name}, {when}": float(number) for when, number in numbers.items()}
    return found
