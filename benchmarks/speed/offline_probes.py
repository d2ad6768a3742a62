"""Updates of an offline agent measured alone, in a process of its own.

    python -m benchmarks.speed.offline_probes loop --agent iql

    loop    the training loop: batches from the data, updates, sums of metrics, and every thousand updates what a run reads
    bare    the same updates on one batch that lies on the device, in one compiled loop: no data, no metrics

`offline` starts these. Each prints one line of JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.lab.measure import versions
from maxent_rl.agents.registry import agent_class
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.files import write_dataset
from maxent_rl.runs.config import RunConfig
from maxent_rl.sources.load import load_data
from maxent_rl.training.compilation import compiler_options
from maxent_rl.training.loops.learner import numeric
from maxent_rl.training.loops.make import Loop, make_loop
from maxent_rl.types import Spec

HALF_CHEETAH = Spec(observation_shape=(17,), action_shape=(6,), horizon=1000)
LOG_EVERY = 1_000
_PACKAGES = ("maxent_rl", "jax", "jaxlib", "flax", "optax", "numpy")
_CHUNK_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Still:
    """An environment with HalfCheetah's shapes, in which nothing happens: the loop evaluates in it, and here never does."""

    @property
    def spec(self) -> Spec:
        """Its shapes."""
        return HALF_CHEETAH

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(state, observation)."""
        zeros = jnp.zeros(HALF_CHEETAH.observation_shape)
        return zeros, zeros

    def step(self, state: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """(state, observation, reward, terminated)."""
        return state, state, jnp.zeros(()), jnp.asarray(False)


def write_random(path: Path, size: int) -> None:
    """Random transitions with HalfCheetah's shapes, in episodes of 1000 steps."""
    random = np.random.default_rng(0)
    seen = random.normal(size=(size + 1, 17)).astype(np.float32)
    action = random.uniform(-0.99, 0.99, (size, 6)).astype(np.float32)
    reward = random.normal(size=size).astype(np.float32)
    truncated = np.arange(1, size + 1) % HALF_CHEETAH.horizon == 0
    write_dataset(Dataset(seen[:-1], action, reward, seen[1:], np.zeros(size, bool), truncated), path)


def make_agent(args: argparse.Namespace) -> Any:
    """The agent with its defaults, but for the sizes that all contenders share."""
    sizes: dict[str, Any] = {"batch_size": args.batch_size, "hidden_sizes": tuple(args.hidden_sizes)}
    return agent_class(args.agent)(**sizes, **({"sampled_actions": args.cql_actions} if args.agent == "cql" else {}))


def build(args: argparse.Namespace) -> Loop:
    """The training loop of one seed."""
    run = RunConfig(agent=args.agent, env="Still", dataset=str(args.dataset))
    return make_loop(run, make_agent(args), Still(), jax.local_devices()[:1], load=load_data)


def loop(args: argparse.Namespace) -> dict[str, float]:
    """The training loop; every `LOG_EVERY` updates metrics are read and checked, as in a run."""
    made, since = build(args), 0

    def advance(updates: int) -> None:
        nonlocal since
        made.advance(made.step + updates, lambda: False)
        since += updates
        if since >= LOG_EVERY:
            made.take_metrics()
            made.check()
            since = 0

    return measured(advance, args.seconds)


def bare(args: argparse.Namespace) -> dict[str, float]:
    """The update alone, compiled as training is."""
    made: Any = build(args)
    agent = numeric(make_agent(args))
    state = jax.tree.map(lambda leaf: leaf[0], made.learner.seeds.agent)
    batch = made._data.sample(jax.random.key(1), args.batch_size)

    @partial(jax.jit, donate_argnums=1, compiler_options=compiler_options())
    def several(agent: Any, state: Any, batch: Any, key: jax.Array, updates: jax.Array) -> Any:
        def update(index: jax.Array, state: Any) -> Any:
            return agent.update(state, batch, jax.random.fold_in(key, index))[0]

        return jax.lax.fori_loop(0, updates, update, state)

    def advance(updates: int) -> None:
        nonlocal state
        state = several(agent, state, batch, jax.random.key(2), np.int32(updates))
        jax.block_until_ready(state)  # type: ignore[no-untyped-call]

    return measured(advance, args.seconds)


def measured(advance: Callable[[int], None], seconds: float) -> dict[str, float]:
    """Updates per second of `advance(updates)`, in chunks of about half a second, after compiling and a chunk unmeasured."""
    began = time.perf_counter()
    advance(1)
    compile_seconds = time.perf_counter() - began
    began = time.perf_counter()
    advance(5)
    chunk = max(int(5 * _CHUNK_SECONDS / (time.perf_counter() - began)), 1)
    advance(chunk)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        advance(chunk)
        done += chunk
    return {"updates_per_second": done / (time.perf_counter() - began), "compile_seconds": compile_seconds}


def main() -> None:
    """Measures one part and prints it."""
    parts = {part.__name__: part for part in (loop, bare)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=parts)
    parser.add_argument("--agent", default="iql")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--cql-actions", type=int, default=10)
    args = parser.parse_args()
    print(json.dumps({"values": parts[args.part](args), "versions": versions(*_PACKAGES)}))


if __name__ == "__main__":
    main()
