"""Trains one contender on one question, and measures what the question is about."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.credit import worlds
from benchmarks.studies.credit.policy import Probe, World, answered, said, scores, trained
from benchmarks.studies.credit.setting import QUESTIONS, Credit
from maxent_rl import losses
from maxent_rl.tokens import TokenBatch, objectives
from maxent_rl.tokens.objectives import BalancedClip, Objective, Stage, Work, chain
from maxent_rl.tokens.tasks import count_distinct

_SAMPLES = 64
_COURSE_POINTS = 25


@struct.dataclass
class Looking(Stage):
    """Measures clipping at the last place of responses, where HAPO's forks are, and where BAPO's lower bound ends."""

    slot = "regulariser"
    low_from: float = 0.6
    low_to: float = 0.9

    def __call__(self, state: Any, work: Work) -> tuple[Any, Work]:
        """Adds to the metrics."""
        last = work.mask[:, -1]
        found = {
            "clipped/high": losses.masked_mean(work.clipped[:, -1] > 0, last),
            "clipped/low": losses.masked_mean(work.clipped[:, -1] < 0, last),
        }
        if work.clip_low is not None:
            low = 1.0 - jnp.max(work.clip_low)
            found["balance/between"] = ((low > self.low_from + 1e-3) & (low < self.low_to - 1e-3)).astype(jnp.float32)
        return state, work.measure(**found)


def measure(unit: Unit, plan: Credit, work: Path) -> Measured:
    """Trains all seeds of a contender in one program."""
    question = QUESTIONS[unit.env]
    world = question.world()
    name, settings = question.contenders[unit.contender]
    objective = objectives.make(name, **settings)
    limit = next((stage.ratio_low_to for stage in objective.stages if isinstance(stage, BalancedClip)), 0.9)
    objective = chain(*objective.stages, Looking(low_to=limit), name=name)
    count = unit.measured["num_seeds"]
    keys = jax.random.split(jax.random.key(23), count)
    params, course = trained(world, objective, question.training, keys, _PROBES.get(unit.env))
    values = _values(unit.env, world, params, {name: np.asarray(numbers) for name, numbers in course.items()})
    seeds = []
    for seed in range(count):
        numbers = {name: float(each[seed]) for name, each in values.items()}
        drawn = {name: _thinned(np.asarray(course[name])[seed]) for name in _DRAWN.get(unit.env.split("-")[0], ())}
        seeds.append(Seed(seed, numbers, {"course": drawn}))
    return Measured(seeds, {"jax": jax.__version__})


def _thinned(course: np.ndarray) -> str:
    """Means over equal parts of a course, as text."""
    parts = np.array_split(course, min(_COURSE_POINTS, len(course)))
    return " ".join(f"{part.mean():.4g}" for part in parts)


_DRAWN = {
    "hapo": ("clipped/high", "fork_entropy"),
    "progrpo": ("reward", "entropy"),
    "bapo": ("reward", "entropy"),
    "ares": tuple(f"length_{level}" for level in range(worlds.LEVELS)),
    "g2rpo": ("hit_0", "hit_1", "gradient_ratio"),
    "riskpo": ("reward", "entropy"),
    "copo": ("reward", "learning"),
    "empo": ("reward", "entropy"),
}
"""The courses that are kept, by question."""


def _values(name: str, world: World, params: Array, course: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers [seed] by metric."""
    last = {"reward": _late(course["reward"]), "entropy": _late(course["entropy"])}
    half = course["entropy"].shape[1] // 2
    kind = name.split("-")[0]
    if kind == "hapo":
        return last | {
            "fork_clip_high": course["clipped/high"].mean(axis=1),
            "fork_clip_low": course["clipped/low"].mean(axis=1),
            "fork_entropy_quarter": course["fork_entropy"][:, half // 2],
            "fork_entropy_half": course["fork_entropy"][:, half],
        }
    if kind == "progrpo":
        found = {key: np.asarray(each) for key, each in _sampled(world, params).items()}
        return last | found
    if kind == "bapo":
        found = {"entropy_half": course["entropy"][:, half], "reward_half": course["reward"][:, half]}
        if "balance/low" in course:
            for side in ("low", "high"):
                found[f"bound_{side}"] = course[f"balance/{side}"].mean(axis=1)
            found["low_between"] = course["balance/between"].mean(axis=1)
        return last | found
    if kind == "ares":
        found = {"windows": course["ares/windows"].mean(axis=1)} if "ares/windows" in course else {}
        for level in range(worlds.LEVELS):
            for what in ("length", "right"):
                found[f"{what}_{level}"] = _late(course[f"{what}_{level}"])
                found[f"{what}_{level}_first"] = course[f"{what}_{level}"][:, :5].mean(axis=1)
        return last | found
    if kind == "g2rpo":
        ratio = course["gradient_ratio"]
        found = {"hit_0": _late(course["hit_0"]), "hit_1": _late(course["hit_1"])}
        found |= {f"entropy_{task}": _late(course[f"entropy_{task}"]) for task in (0, 1)}
        return found | {
            "log_ratio": np.abs(np.log(ratio)).mean(axis=1),
            "ratio_first": np.exp(np.log(ratio[:, :20]).mean(axis=1)),
            "outlier_share": _late(course["outlier_share"]),
        }
    exact = _exact(world, params)
    if kind == "riskpo":
        return (
            last
            | {f"pass@{k}": (1 - (1 - exact) ** k).mean(axis=1) for k in (1, 16)}
            | {"pass@16 hard": (1 - (1 - exact[:, :13]) ** 16).mean(axis=1)}
        )
    if kind == "copo":
        begin = exact_start(world).mean()
        return last | {
            "right": exact.mean(axis=1),
            "gained": exact.mean(axis=1) - begin,
            "learning": course["learning"].mean(axis=1),
        }
    wrong = np.arange(world.prompts) >= 26
    return last | {
        "right": exact.mean(axis=1),
        "right where most are": exact[:, ~wrong].mean(axis=1),
        "right where most are wrong": exact[:, wrong].mean(axis=1),
        "pass@64": (1 - (1 - exact) ** 64).mean(axis=1),
    }


def _late(course: np.ndarray) -> np.ndarray:
    """The mean over the last tenth, by seed."""
    mean: np.ndarray = course[:, -max(course.shape[1] // 10, 1) :].mean(axis=1)
    return mean


def exact_start(world: World) -> np.ndarray:
    """[prompt] the probability of the right answer where learning begins."""
    return _exact(world, jnp.asarray(world.logits, jnp.float32)[None])[0]


def _exact(world: World, params: Array) -> np.ndarray:
    """[seed, prompt] the probability of the right answer."""
    right, prompts = jnp.asarray(worlds.right_answers(world)), jnp.arange(world.prompts)
    logp = jax.jit(jax.vmap(lambda each: said(world, each, prompts, right).logp))(params)
    return np.asarray(jnp.exp(jnp.sum(logp, axis=-1)))


def _sampled(world: World, params: Array) -> dict[str, Array]:
    """pass@1, pass@16 and different right answers among 64 samples of each prompt, by seed."""

    @jax.jit
    @jax.vmap
    def of_seed(params: Array) -> dict[str, Array]:
        prompts = jnp.repeat(jnp.arange(world.prompts), _SAMPLES)
        tokens, mask, _ = answered(world, params, prompts, jax.random.key(9))
        reward = world.judge(prompts, tokens, mask, jax.random.key(9))
        right = reward.reshape(-1, _SAMPLES)
        sixteen = jnp.any(right.reshape(world.prompts, -1, 16) > 0, axis=-1)
        distinct = count_distinct(tokens, mask, reward, _SAMPLES)
        return {"pass@1": jnp.mean(right), "pass@16": jnp.mean(sixteen), "distinct": jnp.mean(distinct)}

    return of_seed(params)


def _forks(
    world: World, objective: Objective, state: Any, params: Array, batch: TokenBatch, prompts: Array
) -> dict[str, Array]:
    assert batch.entropy_old is not None
    return {"fork_entropy": jnp.mean(batch.entropy_old[:, -1])}


def _levels(
    world: World, objective: Objective, state: Any, params: Array, batch: TokenBatch, prompts: Array
) -> dict[str, Array]:
    found = {}
    for level in range(worlds.LEVELS):
        member = prompts // worlds.OF_LEVEL == level
        found[f"length_{level}"] = losses.masked_mean(jnp.sum(batch.mask, axis=1), member)
        found[f"right_{level}"] = losses.masked_mean(batch.rewards, member)
    return found


def _tasks(
    world: World, objective: Objective, state: Any, params: Array, batch: TokenBatch, prompts: Array
) -> dict[str, Array]:
    """How large the gradients of both tasks are beside each other, and how much of the second's comes of outliers."""
    task, tokens = batch.task, batch.tokens
    assert task is not None and tokens is not None
    state, prepared = objective.prepare(state, batch)

    def norm(rows: Array) -> Array:
        part = dataclasses.replace(prepared, advantages=jnp.where(rows[:, None], prepared.advantages, 0.0))
        slope = jax.grad(lambda params: objective(state, said(world, params, prompts, tokens), part)[0])(params)
        return jnp.sqrt(jnp.sum(slope**2))

    size = jnp.abs(prepared.advantages[:, 0])  # type: ignore[index]
    second = task == 1
    outliers = second & (batch.rewards > 1)
    floor = 1e-6
    share = jnp.sum(jnp.where(outliers, size, 0.0)) / jnp.maximum(jnp.sum(jnp.where(second, size, 0.0)), floor)
    found = {"gradient_ratio": (norm(second) + floor) / (norm(~second) + floor), "outlier_share": share}
    best = jnp.where(second, batch.rewards % 1 > 0.84, batch.rewards > 0.5)
    for number in (0, 1):
        found[f"hit_{number}"] = losses.masked_mean(best, task == number)
        found[f"entropy_{number}"] = losses.masked_mean(jnp.mean(batch.entropy_old, axis=1), task == number)  # type: ignore[arg-type]
    return found


def _learning(
    world: World, objective: Objective, state: Any, params: Array, batch: TokenBatch, prompts: Array
) -> dict[str, Array]:
    """The share of prompts whose responses have a gradient."""
    tokens = batch.tokens
    assert tokens is not None
    state, prepared = objective.prepare(state, batch)

    def loss(logits: Array) -> Array:
        log_probs = jax.nn.log_softmax(logits)
        logp = jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
        outputs = dataclasses.replace(said(world, params, prompts, tokens), logp=logp)
        return objective(state, outputs, prepared)[0]

    slope = jax.grad(loss)(scores(world, params, prompts, tokens))
    size = jnp.sum(jnp.abs(slope), axis=(1, 2)).reshape(world.prompts, -1).sum(axis=1)
    return {"learning": jnp.mean(size > 1e-6 / len(prompts))}


_PROBES: dict[str, Probe] = {"hapo": _forks, "ares": _levels, "g2rpo": _tasks, "copo": _learning}
