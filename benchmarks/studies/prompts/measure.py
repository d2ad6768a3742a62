"""Lets all seeds of a contender learn from the same warm start, and looks at them on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.lab.measure import BenchmarkError, versions
from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.prompts.setting import Part
from maxent_rl import losses
from maxent_rl.envs.adapters.tokens import TokenEnv
from maxent_rl.errors import MaxentRLError
from maxent_rl.storage.arrays import from_arrays, to_arrays
from maxent_rl.tokens.agent import TokenAgent, TokenState
from maxent_rl.tokens.tasks import TokenTask
from maxent_rl.types import Array, Metrics, PyTree, Spec

_PACKAGES = ("maxent_rl", "jax", "jaxlib", "optax", "flax", "numpy")
_SAMPLES = 8
_WARM_STREAM, _LEARN_STREAM, _EVALUATION_STREAM = 1, 2, 3
TRAINED = ("actor/entropy", "rollout/mixed_groups", "episode/return", "prompts/right", "prompts/form")
"""Metrics of the iterations that are kept, where there are any, and all others of the source of prompts."""


def measure(unit: Unit, plan: Part, work: Path) -> Measured:
    """Trains a contender: for each seed its numbers at the end, and their course.

    Args:
      unit: the contender.
      plan: that it is of.
      work: folder in which the warm start stays.

    Raises:
      BenchmarkError: the settings do not work.
    """
    try:
        curves = learn(plan, plan.agent(unit.contender), work)
    except MaxentRLError as error:
        raise BenchmarkError(str(error)) from error
    seeds = []
    for index in range(plan.num_seeds):
        own = {name: values[:, index] for name, values in curves.items()}
        last = {name: float(np.mean(values[-2:])) for name, values in own.items()}
        first = {f"{name}, first": float(values[0]) for name, values in own.items()}
        course = {name: " ".join(f"{value:.4g}" for value in values) for name, values in own.items()}
        seeds.append(Seed(plan.seed + index, last | first, {"course": course}))
    return Measured(seeds, versions(*_PACKAGES))


def learn(plan: Part, agent: TokenAgent, work: Path) -> dict[str, np.ndarray]:
    """By name, numbers [point, seed]: of evaluations and of the iterations before each, the first one before any."""
    tasks = plan.tasks()
    task = next(iter(tasks.values()))
    spec = dataclasses.replace(TokenEnv(task).spec, num_envs=plan.responses)
    agent.check(spec, f"tokens/{task.name}")
    keys = jax.vmap(jax.random.key)(jnp.arange(plan.seed, plan.seed + plan.num_seeds))
    states = dataclasses.replace(_init(agent, spec, keys), params=warm_start(plan, work, spec, keys))
    every = plan.iterations // plan.points
    found = [_examine(agent, states, keys, plan.prompts, tuple(tasks.items()))]
    for point in range(plan.points):
        states, metrics = _learn(agent, states, keys, task, point * every, every, plan.responses)
        kept = {name: value for name, value in metrics.items() if name in TRAINED or name.startswith("prompts/")}
        found.append(kept | _examine(agent, states, keys, plan.prompts, tuple(tasks.items())))
    found[0] |= {name: value for name, value in found[1].items() if name not in found[0]}
    return {name: np.stack([np.asarray(each[name]) for each in found]) for name in found[0]}


def warm_start(plan: Part, work: Path, spec: Spec, keys: Array) -> PyTree:
    """The parameters of each seed after the warm start, which all contenders of the part share."""
    agent, task = plan.agent("warm"), next(iter(plan.tasks().values()))
    decides = (plan.warm_steps, plan.responses, plan.seed, plan.num_seeds, str(task), dataclasses.asdict(agent))
    told = json.dumps(decides, default=str)
    path = work / f"warm-{hashlib.sha256(told.encode()).hexdigest()[:12]}.npz"
    states = _init(agent, spec, keys)
    if not path.exists():
        states, metrics = _imitate(agent, states, keys, task, plan.warm_steps, plan.responses)
        print("warm start:", np.round(np.asarray(metrics), 3).tolist(), flush=True)
        work.mkdir(parents=True, exist_ok=True)
        np.savez(path, **to_arrays(states.params))
    with np.load(path) as arrays:
        return from_arrays(states.params, dict(arrays))


@partial(jax.jit, static_argnames="spec")
def _init(agent: TokenAgent, spec: Spec, keys: Array) -> TokenState:
    return jax.vmap(lambda key: agent.init(key, spec))(keys)


@partial(jax.jit, static_argnames=("task", "steps", "count"))
def _imitate(
    agent: TokenAgent, states: TokenState, keys: Array, task: TokenTask[Any], steps: int, count: int
) -> tuple[TokenState, Array]:
    agent = agent.replace(num_minibatches=1)  # type: ignore[attr-defined]

    def one(state: TokenState, key: Array) -> tuple[TokenState, Array]:
        def step(carry: TokenState, number: Array) -> tuple[TokenState, Array]:
            drawn = jax.random.fold_in(jax.random.fold_in(key, _WARM_STREAM), number)
            carry, metrics = agent.imitate(carry, task, drawn, count)
            return carry, metrics["supervised/loss"]

        state, values = jax.lax.scan(step, state, jnp.arange(steps))
        return state, values[-1]

    return jax.vmap(one)(states, keys)


@partial(jax.jit, static_argnames=("task", "steps", "count"))
def _learn(
    agent: TokenAgent, states: TokenState, keys: Array, task: TokenTask[Any], first: int, steps: int, count: int
) -> tuple[TokenState, Metrics]:
    def one(state: TokenState, key: Array) -> tuple[TokenState, Metrics]:
        def step(carry: TokenState, number: Array) -> tuple[TokenState, Metrics]:
            drawn = jax.random.fold_in(jax.random.fold_in(key, _LEARN_STREAM), number)
            return agent.reinforce(carry, task, drawn, count)

        state, metrics = jax.lax.scan(step, state, first + jnp.arange(steps))
        return state, jax.tree.map(partial(jnp.mean, axis=0), metrics)

    return jax.vmap(one)(states, keys)


@partial(jax.jit, static_argnames=("prompts", "tasks"))
def _examine(
    agent: TokenAgent, states: TokenState, keys: Array, prompts: int, tasks: tuple[tuple[str, TokenTask[Any]], ...]
) -> Metrics:
    """Right answers, sampled and likeliest, entropy and different responses to a prompt: by kind, learned and held out."""
    kinds = [(name, task, held_out) for name, task in tasks for held_out in (False, True)]

    def one(state: TokenState, key: Array) -> Metrics:
        key = jax.random.fold_in(key, _EVALUATION_STREAM)
        posed = jnp.concatenate([task.prompts(key, prompts, held_out)[0] for _, task, held_out in kinds])
        model, mask = agent.model(state.params), posed != TokenTask.pad_token
        often, often_mask = (jnp.repeat(rows, _SAMPLES, axis=0) for rows in (posed, mask))
        drawn = model.respond(often, often_mask, key, state.response_length)
        best = model.respond(posed, mask, None, state.response_length)
        task = kinds[0][1]
        right = task.reward(often, drawn.tokens, drawn.mask).reshape(len(kinds), -1)
        greedy = task.reward(posed, best.tokens, best.mask).reshape(len(kinds), -1)
        groups = drawn.tokens.reshape(-1, _SAMPLES, drawn.tokens.shape[-1])
        same = jnp.all(groups[:, :, None] == groups[:, None], axis=-1)
        firsts = ~jnp.any(same & (jnp.arange(_SAMPLES)[:, None] > jnp.arange(_SAMPLES)), axis=-1)
        found = {
            "distinct": jnp.mean(jnp.sum(firsts, axis=-1)),
            "entropy": losses.masked_mean(drawn.entropy, drawn.mask),
        }
        for index, (name, _, held_out) in enumerate(kinds):
            place = f"{name}{', held out' if held_out else ''}"
            found |= {place: jnp.mean(right[index]), f"{place}, greedy": jnp.mean(greedy[index])}
        return found

    return jax.vmap(one)(states, keys)
