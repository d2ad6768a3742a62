"""Lets all seeds of a contender talk and learn, and looks at them on the way."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.lab import policies
from benchmarks.lab.measure import BenchmarkError, versions
from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.conversations.setting import CHUNK, Forked, Modulation, Part
from maxent_rl import losses
from maxent_rl.envs.adapters.tokens import ConversationEnv
from maxent_rl.errors import MaxentRLError
from maxent_rl.networks.transformer import Transformer
from maxent_rl.storage.arrays import from_arrays, to_arrays
from maxent_rl.tokens.agent import TokenAgent, TokenState
from maxent_rl.tokens.batch import TokenBatch, TokenOutputs
from maxent_rl.tokens.branching import Forks
from maxent_rl.tokens.conversing import converse
from maxent_rl.tokens.tasks.conversation import ConversationTask
from maxent_rl.tokens.turns import Turns
from maxent_rl.types import Array, Metrics, PyTree, Spec

_PACKAGES = ("maxent_rl", "jax", "jaxlib", "optax", "flax", "numpy")
_SAMPLES = 8
SOLVED = 0.9
"""Right answers, of all, from which the task counts as solved."""
_TRAINED = {
    "actor/entropy": "entropy of the batch",
    "policy/clip_fraction_high": "rising beyond the clip",
    "rollout/mixed_groups": "groups that teach",
}
"""Metrics of the iterations that are kept, and what they are called."""


def measure(unit: Unit, plan: Part, work: Path) -> Measured:
    """Trains a contender: for each seed its numbers early, at half and at the end, and their course.

    Args:
      unit: the contender.
      plan: that it is of.
      work: folder in which warm starts stay.

    Raises:
      BenchmarkError: the settings do not work.
    """
    try:
        if isinstance(plan, Forked):
            return Measured(_forked(plan, unit.contender, work), versions(*_PACKAGES))
        curves = learn(plan, unit.contender, work)
    except MaxentRLError as error:
        raise BenchmarkError(str(error)) from error
    seeds = []
    for index in range(plan.num_seeds):
        own = {name: values[:, index] for name, values in curves.items()}
        course = {name: " ".join(f"{value:.4g}" for value in values) for name, values in own.items()}
        values = policies.summary(own) | {
            "iterations to 90 %": reached(own["pass@1"], plan.iterations),
            "entropy of the batch, spread": float(np.std(np.diff(own["entropy of the batch"][1:]))),
        }
        seeds.append(Seed(plan.seed + index, values, {"course": course}))
    return Measured(seeds, versions(*_PACKAGES))


def reached(right: np.ndarray, iterations: int) -> float:
    """After how many iterations right answers [point], evenly over them, first were `SOLVED`; all of them where never."""
    at = np.linspace(0, iterations, len(right))
    above = np.flatnonzero(right >= SOLVED)
    if not len(above):
        return float(iterations)
    index = int(above[0])
    if index == 0:
        return 0.0
    share = (SOLVED - right[index - 1]) / (right[index] - right[index - 1])
    return float(at[index - 1] + share * (at[index] - at[index - 1]))


def learn(plan: Part, contender: str, work: Path) -> dict[str, np.ndarray]:
    """By name, numbers [point, seed]: of evaluations and of the iterations before each, the first one before any."""
    agent, task, spec, keys = _setting(plan, contender)
    agent.check(spec, f"tokens/{task.name}")
    states = policies.begin(agent, spec, keys, warmed(plan, work), None)
    # Of no interest elsewhere, and some objectives ask for more than EMPG's batches have.
    count = plan.responses if isinstance(plan, Modulation) else 0
    look = partial(_examine, agent, keys=keys, task=task, prompts=plan.prompts, count=count)
    return policies.followed(
        agent,
        states,
        keys,
        task,
        iterations=plan.iterations,
        points=plan.points,
        count=plan.responses,
        look=look,
        kept=_TRAINED,
    )


def _setting(plan: Part, contender: str) -> tuple[TokenAgent, ConversationTask[Any], Spec, Array]:
    task = plan.task
    assert isinstance(task, ConversationTask)
    spec = dataclasses.replace(ConversationEnv(task).spec, num_envs=plan.responses)
    keys = jax.vmap(jax.random.key)(jnp.arange(plan.seed, plan.seed + plan.num_seeds))
    return plan.agent(contender), task, spec, keys


def warmed(plan: Part, work: Path) -> PyTree:
    """The parameters [seed, ...] after the warm start, of all contenders, from a file where they have been before."""
    agent, task, spec, keys = _setting(plan, next(iter(plan.arms)))
    agent = agent.replace(objective="grpo", objective_settings=None, num_minibatches=1, num_epochs=1)  # type: ignore[attr-defined]
    told = (plan.warm_batches, plan.responses, plan.seed, plan.num_seeds, CHUNK, str(task), dataclasses.asdict(agent))
    path = work / f"warm-{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}.npz"
    params = policies.first(agent, spec, keys)
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        states = policies.begin(agent, spec, keys, params, None)
        for first in range(0, plan.warm_batches, CHUNK):
            states, loss = policies.imitate(agent, states, keys, task, 1, first, CHUNK, plan.responses)
        print("imitated", plan.warm_batches, "batches, loss", np.round(np.asarray(loss), 3).tolist(), flush=True)
        np.savez(path, **to_arrays(states.params))
    with np.load(path) as arrays:
        return from_arrays(params, dict(arrays))


@partial(policies.jit, static_argnames=("task", "prompts", "count"))
def _examine(
    agent: TokenAgent, states: TokenState, keys: Array, task: ConversationTask[Any], prompts: int, count: int
) -> Metrics:
    """Held-out prompts: right answers, turns, calls and entropy; and how much of the gradient unsure turns give.

    The latter over `count` conversations, where that is not 0.
    """

    def one(state: TokenState, key: Array) -> Metrics:
        prompt_key, answer_key, learn_key = jax.random.split(jax.random.fold_in(key, policies.EVALUATION_STREAM), 3)
        posed, mask = (jnp.repeat(rows, _SAMPLES, axis=0) for rows in task.prompts(prompt_key, prompts, held_out=True))
        drawn = agent.model(state.params).converse(task, posed, mask, answer_key)
        right = drawn.rewards > 0.5
        found = {
            "pass@1": jnp.mean(right),
            "pass@8": jnp.mean(jnp.any(right.reshape(-1, _SAMPLES), axis=-1)),
            "calls": jnp.mean(drawn.calls.astype(jnp.float32)),
            "entropy": losses.masked_mean(drawn.said.entropy, drawn.said.mask),
            "cut": 1.0 - jnp.mean(drawn.ended),
        }
        if count:
            found["gradient of unsure turns"] = unsure_share(agent, state, task, learn_key, count)
        return found

    return jax.vmap(one)(states, keys)


def unsure_share(agent: TokenAgent, state: TokenState, task: ConversationTask[Any], key: Array, count: int) -> Array:
    """[] how much of the length of the objective's gradient comes from the turns that are less sure than half of all.

    The gradient in the parameters is the sum of what the tokens of sure turns give and of what those of unsure ones give;
    the share is that of the lengths of these two.
    """
    # Drawn as for EMPG, which asks for turns and entropies, which others do not.
    drawing = agent.replace(objective="empg", objective_settings=None)  # type: ignore[attr-defined]
    drawn_by = dataclasses.replace(state, objective=drawing.build_objective().init())
    batch, _ = drawing.collect(drawn_by, task, key, count)
    objective = agent.build_objective(task.response_length, task.vocabulary_size)
    own, batch = objective.prepare(state.objective, batch)
    step = batch.rows(slice(None)).as_step()
    assert step.context is not None and step.tokens is not None and step.turns is not None
    context, tokens = step.context, step.tokens

    def likelihoods(params: PyTree) -> tuple[Array, Array]:
        found = agent.model(params).statistics(context, tokens)
        return found.logp, found.entropy

    said, back = jax.vjp(likelihoods, state.params)
    slopes = jax.grad(lambda logp: objective(own, TokenOutputs(logp, said[1]), step)[0])(said[0])
    unsure = _unsure(step)
    lengths = [
        _length(back((jnp.where(which, slopes, 0.0), jnp.zeros_like(said[1])))[0]) for which in (unsure, ~unsure)
    ]
    return lengths[0] / jnp.maximum(lengths[0] + lengths[1], 1e-20)


def _unsure(step: TokenBatch) -> Array:
    """[N, T] bool: tokens of turns whose mean entropy, as they were drawn, is above the median of the batch's turns."""
    assert step.turns is not None and step.entropy_old is not None
    turns = Turns.of(step.turns, step.mask)
    entropy = turns.mean(step.entropy_old)
    middle = jnp.nanmedian(jnp.where(turns.there, entropy, jnp.nan))
    return turns.spread(entropy) > middle


def _length(tree: PyTree) -> Array:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


def _forked(plan: Forked, contender: str, work: Path) -> list[Seed]:
    agent, task, _, keys = _setting(plan, contender)
    found = _fork(agent, warmed(plan, work), keys, task, plan.prompts, plan.forks(contender))
    return [
        Seed(plan.seed + index, {name: float(values[index]) for name, values in found.items()}, {})
        for index in range(plan.num_seeds)
    ]


@partial(policies.jit, static_argnames=("task", "prompts"))
def _fork(
    agent: TokenAgent, params: PyTree, keys: Array, task: ConversationTask[Any], prompts: int, forks: Forks
) -> Metrics:
    """Conversations that branch: how many forks a prompt has, from whom, and how many conversations differ."""

    def one(params: PyTree, key: Array) -> Metrics:
        prompt_key, answer_key = jax.random.split(jax.random.fold_in(key, policies.EVALUATION_STREAM))
        posed, mask = task.prompts(prompt_key, prompts, held_out=True)
        posed, mask = (jnp.repeat(rows, forks.size, axis=0) for rows in (posed, mask))
        model = agent.model(params)
        found = converse(Transformer(model.config), params, task, posed, mask, answer_key, forks=forks)
        assert found.parent is not None and found.free is not None
        tokens = jnp.where(found.said.mask, found.said.tokens, 0).reshape(prompts, forks.size, -1)
        return branching(found.parent, found.free, tokens, forks.size) | {"right": jnp.mean(found.rewards > 0.5)}

    return jax.vmap(one)(params, keys)


def branching(parent: Array, free: Array, tokens: Array, size: int) -> Metrics:
    """What forks gave.

    Args:
      parent: [N] which row each was forked from, -1 for none; the rows of a prompt side by side.
      free: [N] bool: rooms that stayed empty.
      tokens: [B, size, T] what was said, 0 elsewhere.
      size: rooms of a prompt.

    Returns:
      [] each: "forks" of a prompt; "share of the top three", of the forks that have the three rows of a prompt most
      forked from; "different" conversations of a prompt, of those that there are.
    """
    of_prompt = jnp.where(parent >= 0, parent % size, size).reshape(-1, size)
    times = jnp.sum(of_prompt[:, :, None] == jnp.arange(size), axis=1)
    total = jnp.sum(times, axis=-1)
    top = jnp.sum(jnp.sort(times, axis=-1)[:, -3:], axis=-1)
    there = ~free.reshape(-1, size)
    same = jnp.all(tokens[:, :, None] == tokens[:, None], axis=-1) & there[:, None, :]
    earlier = jnp.any(same & (jnp.arange(size)[:, None] > jnp.arange(size)), axis=-1)
    return {
        "forks": jnp.mean(total.astype(jnp.float32)),
        "share of the top three": jnp.mean(top, where=total > 3) / jnp.mean(total, where=total > 3),
        "different": jnp.mean(jnp.sum(there & ~earlier, axis=-1) / jnp.sum(there, axis=-1)),
    }
