"""How fast environments that pay for sets are stepped and learned in, and what a visit costs in every set function."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.lab.measure import BenchmarkError, versions
from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.submodular.tasks import PACKAGES, make_env
from maxent_rl.envs.device import EnvState, reset_batch, step_batch
from maxent_rl.envs.submodular.env import SubmodularEnv
from maxent_rl.errors import MaxentRLError
from maxent_rl.runs import command_line as command
from maxent_rl.set_functions import (
    RELEASED_JITTER,
    RELEASED_OFFSET,
    Concave,
    Coverage,
    Distinct,
    Entropy,
    FacilityLocation,
    InformationGain,
    ItemCollection,
    LogDeterminant,
    Modular,
    OnGrid,
    PiecewiseConcave,
    SetFunction,
    Table,
    Truncated,
    matern52,
)
from maxent_rl.training.compilation import compiler_options, enable_compilation_cache
from maxent_rl.training.loops.make import make_loop
from maxent_rl.types import Array, Spec

TRAINING, STEPPING, VISITS = "training", "stepping", "visits"
"""What is measured: of an environment the first two, of a set function the last."""
_SIDE, _CUSTOMERS, _ELEMENTS = 30, 100, 40


def measure_speed(unit: Unit) -> Measured:
    """Steps or visits per second in several windows, after compiling and a warm-up.

    Raises:
      BenchmarkError: the settings do not work.
    """
    enable_compilation_cache()
    try:
        if unit.contender == VISITS:
            work, each = _visiting(FUNCTIONS[unit.env](), unit.measured["trajectories"], unit.measured["elements"])
        else:
            parsed = command.parse([*unit.flags])
            env = make_env(parsed.run.env)
            work, each = _training(parsed, env) if unit.contender == TRAINING else _stepping(env, parsed.run.num_envs)
        speeds = rates(work, each, unit.measured["windows"], unit.measured["seconds"])
    except MaxentRLError as error:
        raise BenchmarkError(str(error)) from error
    return Measured([Seed(index, {"per_second": speed}, {}) for index, speed in enumerate(speeds)], versions(*PACKAGES))


def rates(work: Callable[[int], None], each: int, windows: int, seconds: float) -> list[float]:
    """Work per second in each window.

    Args:
      work: does so many rounds, and returns when they are done.
      each: work in a round.
      windows: how many.
      seconds: about how long each is.
    """
    work(1)  # compiles
    rounds, took = 1, 0.0
    while took < seconds / 4:
        rounds *= 2
        began = time.perf_counter()
        work(rounds)
        took = time.perf_counter() - began
    rounds = max(int(rounds * seconds / took), 1)
    found = []
    for _ in range(windows):
        began = time.perf_counter()
        work(rounds)
        found.append(rounds * each / (time.perf_counter() - began))
    return found


def _training(parsed: Any, env: SubmodularEnv) -> tuple[Callable[[int], None], int]:
    """Act, step, store and learn; a round is an episode of every environment, and one update."""
    loop = make_loop(parsed.run, parsed.hyper, env, jax.local_devices()[:1])
    loop.start()

    def work(rounds: int) -> None:
        loop.advance(loop.step + rounds * env.horizon, lambda: False)
        loop.check()

    return work, env.horizon * parsed.run.num_envs


def _stepping(env: SubmodularEnv, num_envs: int) -> tuple[Callable[[int], None], int]:
    """Uniformly random actions, with resets; a round is an episode of every environment."""
    carried = {"envs": reset_batch(env, jax.random.split(jax.random.key(0), (1, num_envs)))}

    def work(rounds: int) -> None:
        steps = np.int32(rounds * env.horizon)
        stepped = jax.block_until_ready(_steps(env, carried["envs"], steps, jax.random.key(1)))
        carried["envs"] = stepped[0]

    return work, env.horizon * num_envs


@partial(jax.jit, static_argnums=0, donate_argnums=1, compiler_options=compiler_options())
def _steps(env: SubmodularEnv, envs: EnvState, steps: Array, key: Array) -> tuple[EnvState, Array]:
    """The environments after some steps, and the sum of all rewards: what nobody reads would not be computed."""

    def step(number: Array, carried: tuple[EnvState, Array]) -> tuple[EnvState, Array]:
        envs, total = carried
        actions = uniform_actions(env.spec, jax.random.fold_in(key, number), envs.elapsed.shape)
        envs, stepped = step_batch(env, envs, actions)
        return envs, total + jnp.sum(stepped.reward)

    after: tuple[EnvState, Array] = jax.lax.fori_loop(0, steps, step, (envs, jnp.zeros(())))
    return after


def uniform_actions(spec: Spec, key: Array, shape: tuple[int, ...]) -> Array:
    """[*shape, action], or [*shape] of discrete ones."""
    if spec.num_actions is None:
        return jax.random.uniform(key, (*shape, *spec.action_shape), minval=-1.0, maxval=1.0)
    return jax.random.randint(key, shape, 0, spec.num_actions)


def _visiting(function: SetFunction, trajectories: int, elements: int) -> tuple[Callable[[int], None], int]:
    """Marginal gains of random trajectories; a round is all of them."""
    points = isinstance(function, OnGrid)

    @partial(jax.jit, compiler_options=compiler_options())
    def visit(rounds: Array, key: Array) -> Array:
        def once(number: Array, total: Array) -> Array:
            own, shape = jax.random.fold_in(key, number), (trajectories, elements)
            drawn = jax.random.uniform(own, (*shape, 2)) if points else jax.random.randint(own, shape, 0, _SIDE**2)
            # Every gain counts, for the reason given above.
            return total + jnp.sum(jax.vmap(function.marginal_gains)(drawn))

        return jax.lax.fori_loop(0, rounds, once, jnp.zeros(()))

    def work(rounds: int) -> None:
        jax.block_until_ready(visit(np.int32(rounds), jax.random.key(0)))

    return work, trajectories * elements


def _coverage() -> Coverage:
    cells = np.arange(_SIDE**2).reshape(_SIDE, _SIDE)
    padded = np.pad(cells, ((0, 1), (0, 1)), constant_values=-1)
    corners = (padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:])
    footprints = np.stack([corner.ravel() for corner in corners], axis=1).astype(np.int32)
    return Coverage(Table(footprints), Table(np.ones(_SIDE**2, np.float32)))


def _covariance() -> Table:
    points = np.stack(np.meshgrid(*(np.linspace(-1, 1, _SIDE),) * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    return Table(matern52(points, 0.4).astype(np.float32))


def _uniform(*shape: int) -> Table:
    return Table(np.random.default_rng(0).uniform(0.1, 1.0, shape).astype(np.float32))


def _items() -> ItemCollection:
    kinds = np.random.default_rng(0).integers(-1, 6, _SIDE**2).astype(np.int32)
    return ItemCollection(Table(kinds), Table(np.array([3, 2, 3, 4, 6, 3], np.int32)))


def _released(distinct: bool) -> LogDeterminant:
    return LogDeterminant(_covariance(), RELEASED_JITTER, RELEASED_OFFSET, _ELEMENTS, distinct)


FUNCTIONS: dict[str, Callable[[], SetFunction]] = {
    "Coverage": _coverage,
    "OnGrid of coverage": lambda: OnGrid(_coverage(), (0.0, 0.0), (1.0, 1.0), (_SIDE, _SIDE)),
    "FacilityLocation": lambda: FacilityLocation(_uniform(_SIDE**2, _CUSTOMERS)),
    "ItemCollection": _items,
    "Modular": lambda: Modular(_uniform(_SIDE**2)),
    "InformationGain": lambda: InformationGain(_covariance(), 0.05, _ELEMENTS),
    "LogDeterminant": lambda: _released(True),
    "LogDeterminant, repeats counted": lambda: _released(False),
    "Entropy": lambda: Entropy(_covariance(), 0.1, _ELEMENTS),
    "Sum of coverage and items": lambda: _coverage() + 2.0 * _items(),
    "Truncated coverage": lambda: Truncated(_coverage(), 50.0),
    "Concave of modular": lambda: Concave(Modular(_uniform(_SIDE**2)), "sqrt"),
    "PiecewiseConcave of coverage": lambda: PiecewiseConcave(_coverage(), ((0.0, 0.0), (50.0, 50.0), (150.0, 100.0))),
    "Distinct released log-determinant": lambda: Distinct(_released(False), _SIDE**2),
}
"""By name, what makes each: over 900 elements, of 100 customers, with a memory for 40 elements where it has a bound."""
