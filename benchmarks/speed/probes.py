"""Parts of training measured alone, each in a process of its own: `python -m benchmarks.speed.probes update --seconds 10`.

`limits` and `seeds` start these. They are compiled with the options that training is compiled with. Each prints one
line of JSON: speeds, versions, and points of (time, work done), from which the speed of several processes over a common
while can be told.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.lab.measure import versions
from maxent_rl import envs
from maxent_rl.agents import SAC
from maxent_rl.training.compilation import compiler_options
from maxent_rl.types import Spec, Transition

HALF_CHEETAH = Spec(observation_shape=(17,), action_shape=(6,), horizon=1000)
SCAN_LENGTH = 32
_PACKAGES = ("maxent_rl", "jax", "jaxlib", "flax", "optax", "numpy", "gymnasium", "mujoco")
_WARMUP_SECONDS = 1.0
_SECONDS_BETWEEN_POINTS = 0.25
_MOST_WAITING_SECONDS = 300.0

Step = Callable[[Any], Any]
"""Takes a carried value and returns the next; its arrays may still be being computed."""


def matmul(args: argparse.Namespace) -> dict[str, Any]:
    """The matrix products of one update and nothing else."""
    shapes = _products(_agent(args))
    keys = jax.random.split(jax.random.key(0), 2 * len(shapes))
    # Every product has operands of its own: equal ones would be computed once.
    left = [jax.random.normal(key, shape[0]) for key, shape in zip(keys[::2], shapes, strict=True)]
    right = [jax.random.normal(key, shape[1]) for key, shape in zip(keys[1::2], shapes, strict=True)]

    @partial(jax.jit, compiler_options=compiler_options())
    def products(left: list[jax.Array], right: list[jax.Array]) -> list[jax.Array]:
        return [jax.lax.dot_general(a, b, shape[2]) for a, b, shape in zip(left, right, shapes, strict=True)]

    measured = _measure(lambda _: products(left, right), None, args)
    gflop, values = sum(_flops(*shape) for shape in shapes) / 1e9, measured["values"]
    values |= {"gflop_per_update": gflop, "gflops_per_second": values["updates_per_second"] * gflop}
    return measured | {"products": len(shapes)}


def update(args: argparse.Namespace) -> dict[str, Any]:
    """`SAC().update`, one update per dispatch."""
    agent, state, batch, key = _learning(args)
    step = jax.jit(agent.update, donate_argnums=0, compiler_options=compiler_options())
    return _measure(lambda state: step(state, batch, key)[0], state, args)


def scan(args: argparse.Namespace) -> dict[str, Any]:
    """`SAC().update`, 32 updates per dispatch."""
    agent, state, batch, key = _learning(args)

    def several(state: Any, batch: Transition, key: jax.Array) -> Any:
        return jax.lax.scan(
            lambda state, key: (agent.update(state, batch, key)[0], None), state, jax.random.split(key, SCAN_LENGTH)
        )[0]

    step = jax.jit(several, donate_argnums=0, compiler_options=compiler_options())
    return _measure(lambda state: step(state, batch, key), state, args, SCAN_LENGTH)


def vmap(args: argparse.Namespace) -> dict[str, Any]:
    """`SAC().update` of several seeds at once; an update is that of one seed."""
    agent, batches = _agent(args), [_batch(_agent(args), seed) for seed in range(args.seeds)]
    keys = jax.random.split(jax.random.key(0), args.seeds)
    state = jax.vmap(lambda key: agent.init(key, HALF_CHEETAH))(keys)
    batch = jax.tree.map(lambda *entries: jnp.stack(entries), *batches)
    step = jax.jit(jax.vmap(agent.update), donate_argnums=0, compiler_options=compiler_options())
    return _measure(lambda state: step(state, batch, keys)[0], state, args, args.seeds)


def env(args: argparse.Namespace) -> dict[str, Any]:
    """HalfCheetah-v5 alone, stepped as in training, with random actions."""
    made = envs.make_host("HalfCheetah-v5", [0])
    made.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (1000, 1, *HALF_CHEETAH.action_shape)).astype(np.float32)
    turn = iter(range(10**12))
    measured = _measure(lambda _: made.step(actions[next(turn) % len(actions)]), None, args)
    measured["values"] = {"steps_per_second": measured["values"]["updates_per_second"]}
    return measured


def _measure(step: Step, carried: Any, args: argparse.Namespace, work: int = 1) -> dict[str, Any]:
    """Repeats a step for a while; waits for the results only where a point is taken."""
    began = time.perf_counter()
    carried = jax.block_until_ready(step(carried))
    compile_seconds = time.perf_counter() - began
    carried, _ = _repeat(step, carried, _WARMUP_SECONDS, work)
    _wait_for_others(args)
    carried, points = _repeat(step, carried, args.seconds, work)
    (start, _), (end, done) = points[0], points[-1]
    values = {"updates_per_second": done / (end - start), "compile_seconds": compile_seconds}
    return {"values": values, "points": points}


def _wait_for_others(args: argparse.Namespace) -> None:
    """Where several processes are measured side by side: waits until all of them are ready."""
    if args.meet is None:
        return
    (args.meet / str(os.getpid())).touch()
    began = time.monotonic()
    while len(list(args.meet.iterdir())) < args.parties:
        if time.monotonic() - began > _MOST_WAITING_SECONDS:
            raise SystemExit("error: the other processes did not come.")
        time.sleep(0.01)


def _repeat(step: Step, carried: Any, seconds: float, work: int) -> tuple[Any, list[tuple[float, int]]]:
    points, chunk, done = [(time.time(), 0)], 1, 0
    while points[-1][0] - points[0][0] < seconds:
        began = time.perf_counter()
        for _ in range(chunk):
            carried = step(carried)
        carried = jax.block_until_ready(carried)
        elapsed = time.perf_counter() - began
        done += chunk * work
        points.append((time.time(), done))
        chunk = max(1, math.ceil(chunk * _SECONDS_BETWEEN_POINTS / max(elapsed, 1e-6)))
        chunk = min(chunk, 10_000)
    return carried, points


def _agent(args: argparse.Namespace) -> SAC:
    return SAC(batch_size=args.batch_size, hidden_sizes=tuple(args.hidden_sizes))


def _learning(args: argparse.Namespace) -> tuple[SAC, Any, Transition, jax.Array]:
    agent = _agent(args)
    return agent, agent.init(jax.random.key(0), HALF_CHEETAH), _batch(agent, 0), jax.random.key(1)


def _batch(agent: SAC, seed: int) -> Transition:
    """A batch on the device, with numbers of the size that HalfCheetah gives."""
    generator, size = np.random.default_rng(seed), agent.batch_size
    observation = generator.normal(size=(2, size, HALF_CHEETAH.observation_size)).astype(np.float32)
    action = generator.uniform(-1, 1, (size, HALF_CHEETAH.action_size)).astype(np.float32)
    zeros = np.zeros(size, np.float32)
    rows = Transition(observation[0], action, generator.normal(size=size), observation[1], zeros, zeros, zeros + 1)
    return jax.tree.map(lambda entry: jnp.asarray(entry, jnp.float32), rows)


def _products(agent: SAC) -> list[tuple[tuple[int, ...], tuple[int, ...], Any]]:
    """(left shape, right shape, dimension numbers) of every matrix product in the traced update."""

    def run(key: jax.Array) -> Any:
        state = agent.init(key, HALF_CHEETAH)
        return jax.make_jaxpr(agent.update)(state, _batch(agent, 0), key).jaxpr

    return list(_dots(run(jax.random.key(0))))


def _dots(jaxpr: Any) -> Any:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            left, right = (variable.aval.shape for variable in equation.invars)
            yield left, right, equation.params["dimension_numbers"]
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_has_equations):
            if _has_equations(inner):
                yield from _dots(getattr(inner, "jaxpr", inner))


def _has_equations(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


def _flops(left: tuple[int, ...], right: tuple[int, ...], dimensions: Any) -> int:
    """Multiplications and additions of a `dot_general`."""
    (_, contracted), (_, batched) = dimensions
    free = [size for axis, size in enumerate(right) if axis not in (*contracted, *batched)]
    return 2 * math.prod(left) * math.prod(free)


def main() -> None:
    """Measures one part and prints it."""
    parts = {part.__name__: part for part in (matmul, update, scan, vmap, env)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=parts)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the measured while")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--seeds", type=int, default=1, help="of vmap")
    parser.add_argument(
        "--meet", type=Path, help="folder in which processes that run side by side tell that they are ready"
    )
    parser.add_argument("--parties", type=int, default=1, help="how many processes meet")
    args = parser.parse_args()
    measured = parts[args.part](args)
    print(json.dumps(measured | {"versions": versions(*_PACKAGES)}))


if __name__ == "__main__":
    main()
