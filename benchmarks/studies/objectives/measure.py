"""Measures a competitor on a task: a search for its learning rate, then the reported seeds with the default and with that."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.lab.measure import BenchmarkError, versions
from benchmarks.lab.study import Measured, Seed, Unit, runs_of
from benchmarks.studies.objectives.learning import Lanes, examined, learn, warmed, widest
from benchmarks.studies.objectives.setting import (
    AGENT,
    BASE,
    BUDGETS,
    DEFAULT_RATE,
    RATES,
    START,
    Defaults,
    Part,
    Tuned,
    made,
    split,
)
from maxent_rl.errors import MaxentRLError
from maxent_rl.tokens.agent import TokenAgent
from maxent_rl.training.compilation import enable_compilation_cache
from maxent_rl.types import Array, PyTree

LAST = 0.25
"""Share of the iterations whose mean reward is reported, and by which learning rates are chosen."""
_WIDTHS = widest([made(task) for task in BUDGETS])
_WARM_KEY, _LEARN_KEY, _EXAMINE_KEY = range(3)  # what a seed's key is folded with


class Work(NamedTuple):
    """What a unit is measured with.

    Attributes:
      task: its name.
      agent: with the objective.
      folder: where warm starts are kept.
    """

    task: str
    agent: TokenAgent
    folder: Path


def measure(unit: Unit, plan: Part, work: Path) -> Measured:
    """Measures a unit, unless the part without a search has measured it with the learning rate that the search has chosen.

    Args:
      unit: to measure.
      plan: that it is of.
      work: folder in which the warm starts lie, which all units of a task have in common.

    Returns:
      For each seed: reward over the last quarter of the iterations; of held-out prompts after them greedy, pass@1, pass@8,
      entropy in nats per token, distinct right answers, length; the learning rate; and seconds of processor time per
      thousand responses.

    Raises:
      BenchmarkError: the objective cannot run on the task.
    """
    enable_compilation_cache()
    objective, settings = split(unit.measured["objective"]) if unit.contender != START else (BASE, ())
    agent = TokenAgent(objective=objective, objective_settings=settings or None, **AGENT)
    try:
        return _measure(Work(unit.env, agent, work), plan, unit)
    except MaxentRLError as error:
        raise BenchmarkError(str(error)) from error


def _measure(work: Work, plan: Part, unit: Unit) -> Measured:
    seeds = tuple(range(plan.num_seeds))
    starts = _starts(work.task, work.folder, (*seeds, *plan.search_seeds))
    reported = jax.tree.map(lambda leaf: leaf[: len(seeds)], starts)
    rate, more = DEFAULT_RATE, {}
    if isinstance(plan, Tuned):
        searching = jax.tree.map(lambda leaf: leaf[len(seeds) :], starts)
        scores = _search(work, searching, plan.search_seeds, len(seeds))
        rate, more = max(scores, key=lambda rate: scores[rate]), {"search": _shown(scores)}
    before = _measured_before(work, unit) if more and rate == DEFAULT_RATE else None
    if before is not None:
        values = before
    elif unit.contender == START:
        values = [_at(_examined(work, reported, seeds), index) for index in range(len(seeds))]
    else:
        found = _reported(work, reported, seeds, rate)
        values = [_at(found, index) for index in range(len(seeds))]
    return Measured(
        [Seed(seed, own, more) for seed, own in zip(seeds, values, strict=True)],
        versions("jax", "jaxlib", "flax", "optax"),
    )


def _measured_before(work: Work, unit: Unit) -> list[dict[str, float]] | None:
    """What the part without a search has found of the unit, by seed; None where it has not run with the same settings."""
    path = work.folder.parent / f"{Defaults.part}.json"
    if not path.exists():
        return None
    same = {name: value for name, value in unit.settings.items() if name != "rates"}
    runs = runs_of(json.loads(path.read_text(encoding="utf-8"))["runs"], unit.env, unit.contender)
    found = [run for run in runs if "values" in run and {**run["settings"], "rates": None} == {**same, "rates": None}]
    return [run["values"] for run in found] or None


def _search(work: Work, starts: PyTree, seeds: Sequence[int], lanes: int) -> dict[float, float]:
    """By learning rate: the mean reward of the last iterations, over the seeds of the search.

    As many policies learn side by side as there are reported seeds, so that the same programs serve both.
    """
    cells = [(rate, index) for rate in RATES for index in range(len(seeds))]
    rewards: dict[float, list[float]] = {rate: [] for rate in RATES}
    for begin in range(0, len(cells), lanes):
        part = cells[begin : begin + lanes]
        filled = [*part, *[part[-1]] * (lanes - len(part))]
        which = jnp.array([index for _, index in filled])
        rates = jnp.array([rate for rate, _ in filled])
        keys = _keys([seeds[index] for _, index in filled], _LEARN_KEY)
        course, _, _ = _learned(work, Lanes(jax.tree.map(lambda leaf, at=which: leaf[at], starts), rates, keys))
        for (rate, _), reward in zip(part, course, strict=False):
            rewards[rate].append(float(reward))
    # A policy that fell apart has no reward to speak of.
    return {rate: statistics.fmean(np.nan_to_num(found, nan=-1.0)) for rate, found in rewards.items()}


def _reported(work: Work, starts: PyTree, seeds: Sequence[int], rate: float) -> dict[str, np.ndarray]:
    """Numbers [seed] by metric."""
    lanes = Lanes(starts, jnp.full(len(seeds), rate), _keys(seeds, _LEARN_KEY))
    learn(work.agent, made(work.task), lanes, BUDGETS[work.task].responses, 1, _WIDTHS)  # compiles, which is not timed
    reward, params, seconds = _learned(work, lanes)
    values = _examined(work, params, seeds)
    many = np.ones(len(seeds))
    return {"reward": reward, **values, "learning_rate": rate * many, "seconds": seconds * many}


def _learned(work: Work, lanes: Lanes) -> tuple[np.ndarray, PyTree, float]:
    """(reward [lane] of the last iterations, parameters, processor seconds per thousand responses)."""
    budget = BUDGETS[work.task]
    began = time.process_time()
    params, course = learn(work.agent, made(work.task), lanes, budget.responses, budget.iterations, _WIDTHS)
    rewards = np.asarray(course["episode/return"])
    seconds = time.process_time() - began
    last = max(int(LAST * budget.iterations), 1)
    return rewards[:, -last:].mean(axis=1), params, seconds / rewards.size / budget.responses * 1000


def _examined(work: Work, params: PyTree, seeds: Sequence[int]) -> dict[str, np.ndarray]:
    agent = TokenAgent(**AGENT)  # one program for all objectives
    found = examined(agent, made(work.task), params, _keys(seeds, _EXAMINE_KEY), BUDGETS[work.task].prompts)
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


def _at(values: dict[str, np.ndarray], index: int) -> dict[str, float]:
    return {name: round(float(found[index]), 6) for name, found in values.items()}


def _shown(scores: dict[float, float]) -> str:
    return " ".join(f"{rate:g}:{score:.4f}" for rate, score in scores.items())


def _keys(seeds: Sequence[int], use: int) -> Array:
    return jnp.stack([jax.random.fold_in(jax.random.key(seed), use) for seed in seeds])


@functools.lru_cache(maxsize=1)
def _starts(task: str, folder: Path, seeds: tuple[int, ...]) -> PyTree:
    """Parameters [seed, ...] after the warm start, from the disk where they lie there."""
    budget = BUDGETS[task]
    agent = TokenAgent(**AGENT, warm_start_loss=budget.warm_loss)
    about = f"{made(task)} {agent} {budget.responses} {seeds} {sorted(versions('jax').items())}"
    path = folder / f"{task.replace('/', '-')}-{hashlib.sha256(about.encode()).hexdigest()[:16]}.npz"
    keys = _keys(seeds, _WARM_KEY)
    shapes, _ = warmed.eval_shape(agent, made(task), keys, budget.responses)
    leaves, tree = jax.tree.flatten(shapes)
    if not path.exists():
        params, taken = warmed(agent, made(task), keys, budget.responses)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        arrays: dict[str, Any] = {str(index): np.asarray(leaf) for index, leaf in enumerate(jax.tree.leaves(params))}
        with partial.open("wb") as file:
            np.savez(file, **arrays, batches=np.asarray(taken))
        os.replace(partial, path)
    with np.load(path) as file:
        return jax.tree.unflatten(tree, [jnp.asarray(file[str(index)]) for index in range(len(leaves))])
