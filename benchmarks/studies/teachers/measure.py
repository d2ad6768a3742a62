"""Lets all seeds of a contender grow and learn, and looks at them on the way."""

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
from benchmarks.studies.teachers.setting import CHUNK, Begin, Growth, Part
from maxent_rl import losses
from maxent_rl.envs.adapters.tokens import TokenEnv
from maxent_rl.errors import MaxentRLError
from maxent_rl.networks.soups import soup
from maxent_rl.storage.arrays import from_arrays, to_arrays
from maxent_rl.tokens.agent import TokenAgent
from maxent_rl.tokens.batch import Prompted
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.tasks import TokenTask, count_distinct
from maxent_rl.tokens.vocabulary import teacher_divergence
from maxent_rl.types import Array, Metrics, PyTree, Spec

_PACKAGES = ("maxent_rl", "jax", "jaxlib", "optax", "flax", "numpy")
_SAMPLES = 8
_TRAINED = {
    "episode/return": "reward",
    "rollout/mixed_groups": "groups that teach",
    "teacher/divergence": "teacher/divergence",
    "teacher/entropy": "teacher/entropy",
    "srpo/routed": "routed",
}
"""Metrics of the iterations that are kept, where there are any, and what they are called."""


def measure(unit: Unit, plan: Part, work: Path) -> Measured:
    """Trains a contender: for each seed its numbers early, at half and at the end, and their course.

    Args:
      unit: the contender, and the place at which it is.
      plan: that it is of.
      work: folder in which warm starts stay.

    Raises:
      BenchmarkError: the settings do not work.
    """
    plan = plan.placed(unit.env)
    try:
        curves = learn(plan, plan.agent(unit.contender), plan.begin(unit.contender), work)
    except MaxentRLError as error:
        raise BenchmarkError(str(error)) from error
    seeds = []
    for index in range(plan.num_seeds):
        own = {name: values[:, index] for name, values in curves.items()}
        course = {name: " ".join(f"{value:.4g}" for value in values) for name, values in own.items()}
        seeds.append(Seed(plan.seed + index, policies.summary(own), {"course": course}))
    return Measured(seeds, versions(*_PACKAGES))


def learn(plan: Part, agent: TokenAgent, begin: Begin, work: Path) -> dict[str, np.ndarray]:
    """By name, numbers [point, seed]: of evaluations and of the iterations before each, the first one before any."""
    task = plan.task
    spec = dataclasses.replace(TokenEnv(task).spec, num_envs=plan.responses)
    agent.check(spec, f"tokens/{task.name}")
    keys = jax.vmap(jax.random.key)(jnp.arange(plan.seed, plan.seed + plan.num_seeds))
    grow = partial(mixed, plan, agent, spec, keys, work)
    others = {name: grow(policies) for name, policies in begin.measured.items()}
    states = policies.begin(agent, spec, keys, grow(begin.policy), grow(begin.reference))
    plain = _plain(agent).replace(warm_start_hints=0.0, warm_start_objective="likelihood")  # type: ignore[attr-defined]
    look = partial(_examine, plain, others=others, keys=keys, task=task, prompts=plan.prompts, told=plan.told)
    return policies.followed(
        agent,
        states,
        keys,
        task,
        iterations=plan.iterations,
        points=plan.points,
        count=plan.responses,
        look=lambda states: look(states.params),
        kept=_TRAINED,
    )


def mixed(plan: Part, agent: TokenAgent, spec: Spec, keys: Array, work: Path, policies: tuple[Growth, ...]) -> PyTree:
    """The average of the parameters of policies that have grown as said, [seed, ...]."""
    return soup([grown(plan, agent, spec, keys, work, growth) for growth in policies])


def grown(plan: Part, agent: TokenAgent, spec: Spec, keys: Array, work: Path, growth: Growth) -> PyTree:
    """The parameters [seed, ...] after all stages, from a file where they have been before."""
    agent = _plain(agent)
    told = (growth, plan.responses, plan.seed, plan.num_seeds, CHUNK, str(plan.task), dataclasses.asdict(agent))
    path = work / f"warm-{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}.npz"
    like = jax.eval_shape(partial(policies.first, agent, spec), keys)
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        np.savez(path, **to_arrays(_grow(plan, agent, spec, keys, work, growth)))
    with np.load(path) as arrays:
        return from_arrays(like, dict(arrays))


def _grow(plan: Part, agent: TokenAgent, spec: Spec, keys: Array, work: Path, growth: Growth) -> PyTree:
    if not growth:
        return policies.first(agent, spec, keys)
    stage = growth[-1]
    states = policies.begin(agent, spec, keys, grown(plan, agent, spec, keys, work, growth[:-1]), None)
    for first in range(0, stage.batches, CHUNK):
        states, loss = policies.imitate(agent, states, keys, plan.task, stage.stream, first, CHUNK, plan.responses)
    print("imitated", growth, "loss", np.round(np.asarray(loss), 3).tolist(), flush=True)
    return states.params


def _plain(agent: TokenAgent) -> TokenAgent:
    """The agent without what reinforcement alone reads, which must not make another program, nor another file."""
    return agent.replace(  # type: ignore[no-any-return, attr-defined]
        objective="grpo", objective_settings=None, teacher_kind=None, num_minibatches=1, learning_rate=1e-3
    )


@partial(policies.jit, static_argnames=("task", "prompts", "told"))
def _examine(
    agent: TokenAgent,
    params: PyTree,
    others: dict[str, PyTree],
    keys: Array,
    task: TokenTask[Any],
    prompts: int,
    told: bool,
) -> Metrics:
    """Held-out prompts: right answers, entropy, and how far the policy is from others.

    With `told`, how likely a right answer is, too, where it stands before the prompt and where it does not.
    """

    def one(params: PyTree, others: dict[str, PyTree], key: Array) -> Metrics:
        prompt_key, answer_key = jax.random.split(jax.random.fold_in(key, policies.EVALUATION_STREAM))
        posed, mask = task.prompts(prompt_key, prompts, held_out=True)
        often, often_mask = (jnp.repeat(rows, _SAMPLES, axis=0) for rows in (posed, mask))
        model = agent.model(params)
        drawn = model.respond(often, often_mask, answer_key, task.response_length)
        right = task.reward(often, drawn.tokens, drawn.mask) > 0.5
        found = {
            "pass@1": jnp.mean(right),
            "pass@8": jnp.mean(jnp.any(right.reshape(-1, _SAMPLES), axis=-1)),
            "entropy": losses.masked_mean(drawn.entropy, drawn.mask),
            "different": jnp.mean(count_distinct(drawn.tokens, drawn.mask, right.astype(jnp.float32), _SAMPLES)),
        }
        given = Prompted(often, often_mask, drawn.mask)
        for name, other in others.items():
            found[f"divergence from {name}"] = _apart(agent.model(other), model, given, drawn.tokens)
        if told:
            answers, there = task.demonstrations(prompt_key, posed)
            plain = Prompted(posed, mask, there)
            hinted = dataclasses.replace(plain, hints=answers, hint_mask=there).hinted()
            found |= {"likely, untold": _likely(model, plain, answers), "likely, told": _likely(model, hinted, answers)}
        return found

    return jax.vmap(one)(params, others, keys)


def _likely(model: LanguageModel, given: Prompted, answers: Array) -> Array:
    """Mean probability [] of whole answers."""
    logp = jnp.where(given.response_mask, model.statistics(given, answers).logp, 0.0)
    return jnp.mean(jnp.exp(jnp.sum(logp, axis=-1)))


def _apart(other: LanguageModel, model: LanguageModel, given: Prompted, tokens: Array) -> Array:
    """KL(model, other) [] of whole responses that the model drew, in nats: the exact one of each token, summed."""
    found = model.statistics(given, tokens, teacher=other, compared={"divergence": teacher_divergence(1.0)})
    assert found.extra is not None
    return jnp.mean(jnp.sum(jnp.where(given.response_mask, found.extra["divergence"], 0.0), axis=-1))
