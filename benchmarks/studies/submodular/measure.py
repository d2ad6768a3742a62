"""Training on one environment, in this process, and what its plans reach."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.lab.measure import BenchmarkError, versions
from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.submodular.bounds import upper_bound
from benchmarks.studies.submodular.setting import Throughput
from benchmarks.studies.submodular.speed import measure_speed
from benchmarks.studies.submodular.tasks import PACKAGES, REFERENCES, SMALL, discrete, make_env
from maxent_rl.agents.base import acting_state
from maxent_rl.envs.submodular import planning
from maxent_rl.envs.submodular.env import SubmodularEnv
from maxent_rl.envs.submodular.motions import FreeChoice, GridWalk
from maxent_rl.envs.submodular.plane import SubmodularPlane
from maxent_rl.errors import MaxentRLError
from maxent_rl.playing.choosing import most_likely, sampled_action
from maxent_rl.playing.evaluation import evaluate_device
from maxent_rl.playing.trajectories import record_episodes
from maxent_rl.runs import command_line as command
from maxent_rl.runs.policy import Policy
from maxent_rl.set_functions import curvature
from maxent_rl.training.compilation import enable_compilation_cache
from maxent_rl.training.loops.make import Loop, make_loop

DRAWN = ("subpo", "modpo")
"""Whose trajectories are kept for the figures."""
_KEPT = 6  # sampled episodes of the first seed
_STARTS = 64  # over which the value of the start is averaged


def measure(unit: Unit, plan: Any, work: Path) -> Measured:
    """Measures the references of an environment, trains all seeds of a contender there, or times it.

    Raises:
      BenchmarkError: the settings do not work, or training gave numbers that are not finite.
    """
    if isinstance(plan, Throughput):
        return measure_speed(unit)
    enable_compilation_cache()
    try:
        if unit.contender == REFERENCES:
            env, settings = make_env(unit.env), unit.measured
            return Measured([Seed(0, references(env, unit.env, settings), {})], versions(*PACKAGES))
        return trained(unit)
    except MaxentRLError as error:
        raise BenchmarkError(str(error)) from error
    finally:
        jax.clear_caches()  # some fifty units' programs in one process are more than LLVM has room for


def trained(unit: Unit) -> Measured:
    """Trains all seeds of a contender side by side, with evaluations on the way.

    Seconds are those of training, without compiling and without evaluations.
    """
    parsed = command.parse([*unit.flags])
    run, agent = parsed.run, parsed.hyper
    run.check()
    env = make_env(run.env)
    start = start_value(env)
    loop = make_loop(run, agent, env, jax.local_devices()[:1])
    loop.start()
    total, evaluations = run.total_steps // run.num_envs, int(unit.measured["evaluations"])
    warm = 1  # compiles all of it, learning included, as how many steps follow is no matter of compiling
    _advance(loop, warm)
    curves: list[list[list[float]]] = [[] for _ in run.seeds]
    seconds = 0.0
    for index in range(evaluations):
        began = time.monotonic()
        _advance(loop, max(warm, math.ceil(total * (index + 1) / evaluations)))
        seconds += time.monotonic() - began
        scores = evaluate(env, agent, loop, int(unit.measured["episodes"]), start)
        for curve, score in zip(curves, scores, strict=True):
            curve.append([loop.step * run.num_envs, *(round(value, 4) for value in score)])
    found, training = [], loop.take_metrics()
    for index, seed in enumerate(run.seeds):
        values = {"sampled": curves[index][-1][1], "most_likely": curves[index][-1][2], "seconds": seconds}
        values["steps_per_second"] = (total - warm) * run.num_envs * len(run.seeds) / max(seconds, 1e-9)
        more: dict[str, Any] = {"curve": curves[index], "training": _rounded(training[index])}
        if index == 0 and unit.contender in DRAWN and not unit.env.startswith(SMALL):
            more["kept"] = _kept(env, agent, loop, unit.env)
        found.append(Seed(seed, values, more))
    return Measured(found, versions(*PACKAGES))


def evaluate(env: SubmodularEnv, agent: Any, loop: Loop, episodes: int, start: float) -> list[tuple[float, float]]:
    """F of the trajectory of every seed, in the set function's own units: with sampled actions, and with the most likely.

    Exact where policies depend on time alone, else means over episodes.
    """
    seeds = loop.learner.seeds
    if is_time_alone(env):
        matrices = [time_policy(env, agent, _state(agent, loop, index)) for index in range(len(loop.seeds))]
        return [(_exact(env, matrix), _exact(env, _most_likely(matrix))) for matrix in matrices]
    step = loop.step * loop.learning.num_envs
    means = [
        evaluate_device(agent, seeds.agent, seeds.key, step, episodes, env, sampled=sampled)
        for sampled in (True, False)
    ]
    return [tuple(start + each.mean / env.scale for each in both) for both in zip(*means, strict=True)]  # type: ignore[misc]


def is_time_alone(env: SubmodularEnv) -> bool:
    """Whether all that policies see is the step."""
    return isinstance(env.motion, FreeChoice) and not env.visited


def time_policy(env: SubmodularEnv, agent: Any, state: Any) -> Any:
    """[horizon, action] probabilities of a policy that sees the step alone."""
    steps = np.eye(env.horizon + 1)[: env.horizon]
    share = np.arange(env.horizon)[:, None] / env.horizon
    observation = jnp.asarray(np.concatenate([steps, share, np.zeros_like(share)], axis=1), jnp.float32)
    return np.exp(np.asarray(agent.distribution(state, observation).log_probs))


def start_value(env: SubmodularEnv) -> float:
    """F of the start, in the set function's own units: a mean over starts."""
    keys = jax.random.split(jax.random.key(0), _STARTS)
    return float(jnp.mean(jax.jit(jax.vmap(lambda key: env.start_value(env.reset(key)[0])))(keys))) / env.scale


def references(env: SubmodularEnv, name: str, settings: Any) -> dict[str, float]:
    """What is reached without learning, as far as that can be told.

    Args:
      env: the environment.
      name: its name.
      settings: `episodes` of random actions; greedy plans from so many `keys` (one that looks further: `deep_keys`), with
        a `lookahead` and so many `samples` of every sequence.

    Returns:
      F by name: `random`, `greedy` and `deep` (means over keys, with the best of them as `..._best`), `optimum` (by
      enumeration) and its `guarantee`, `bound` (what no policy can exceed).
    """
    start = start_value(env)
    returns = planning.random_return(env, jax.random.key(1), int(settings["episodes"]))
    found = {"random": start + float(jnp.mean(returns)) / env.scale}
    if env.spec.num_actions is not None or env.motion.action_size == 2:
        for kind, lookahead, keys in (("greedy", 1, "keys"), ("deep", settings["lookahead"], "deep_keys")):
            values = _greedy(discrete(env), int(lookahead), int(settings["samples"]), int(settings[keys]))
            found[kind] = float(np.mean(values))
            # Where chance decides, the best of several episodes is luck and no plan.
            found |= {} if settings["samples"] > 1 else {f"{kind}_best": float(np.max(values))}
    return found | _exact_references(env, name)


def _exact_references(env: SubmodularEnv, name: str) -> dict[str, float]:
    if is_time_alone(env):
        best = float(planning.best_time_policy(env).objective) / env.scale
        return {"optimum": best, "guarantee": best / 2}
    if name.startswith(SMALL) or name == "maxent/SteinerTree":
        best = float(planning.best_plan(env, jax.random.key(0)).objective) / env.scale
        return {"optimum": best} | ({"guarantee": _curved(env, best)} if _curved(env, best) > 0 else {})
    return {"bound": upper_bound(env)} if isinstance(env.motion, GridWalk) else {}


def _curved(env: SubmodularEnv, best: float) -> float:
    """(1 - curvature) of the optimum."""
    elements = len(env.motion.led_to)  # type: ignore[attr-defined]
    function = env.function
    if function.capacity is not None:
        function = dataclasses.replace(function, capacity=elements)  # type: ignore[call-arg]
    return (1.0 - curvature(function, elements)) * best


def _greedy(env: SubmodularEnv, lookahead: int, samples: int, keys: int) -> list[float]:
    plans = [planning.greedy_plan(env, jax.random.key(key), lookahead, samples) for key in range(keys)]
    return [float(plan.objective) / env.scale for plan in plans]


def _exact(env: SubmodularEnv, matrix: Any) -> float:
    return float(planning.time_policy_value(env, jnp.asarray(matrix, jnp.float32))) / env.scale


def _most_likely(matrix: Any) -> Any:
    return np.eye(matrix.shape[1])[np.argmax(matrix, axis=1)]


def _state(agent: Any, loop: Loop, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], acting_state(agent, loop.learner.seeds.agent))


def _kept(env: SubmodularEnv, agent: Any, loop: Loop, name: str) -> dict[str, Any]:
    """What the figures draw of the first seed: positions of episodes as text, or probabilities by step."""
    state = _state(agent, loop, 0)
    if is_time_alone(env):
        return {"probabilities": np.round(time_policy(env, agent, state), 4).tolist()}
    if not isinstance(env, SubmodularPlane):
        return {}
    described = {"env": name, "backend": None, "step": loop.step}
    policy = Policy(agent, state, loop.learning.spec, described, loop.seeds[0])
    places, kept = env.field_map.places, {}
    for kind, episodes, choose in (("sampled", _KEPT, sampled_action), ("most_likely", 1, most_likely)):
        played = record_episodes(policy, env, episodes, seed=0, step=0, key=jax.random.key(0), choose=choose)
        kept[kind] = [_text(places(each.observation)) for each in played]
    return kept


def _rounded(metrics: dict[str, float]) -> dict[str, float]:
    """Means over all of the training, of those metrics that are numbers."""
    return {name: float(f"{value:.5g}") for name, value in metrics.items() if np.isfinite(value)}


def _text(positions: Any) -> str:
    """Positions [n, 2] so that the results stay readable."""
    return ", ".join(f"{column:.4g} {row:.4g}" for column, row in positions)


def _advance(loop: Loop, until: int) -> None:
    loop.advance(until, lambda: False)
    loop.check()
