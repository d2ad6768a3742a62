"""Updates of offline agents per second, ours against d3rlpy and the bare update: `python -m benchmarks.speed.offline`.

IQL, TD3+BC and CQL with equal networks, batches, numbers of critics and sampled actions, on the same random transitions with
HalfCheetah's shapes. Each run is in a process of its own: our training loop, our bare update on one batch, d3rlpy's training
loop (and, beside it, its bare update). The clock starts after compiling and a warm-up.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from functools import partial
from pathlib import Path

import tyro

from benchmarks.lab.measure import (
    Contender,
    Measurement,
    Options,
    Ratio,
    command_line,
    exit_status,
    measure,
)
from benchmarks.lab.processes import Process, scratch
from benchmarks.speed.contenders import measure_peer, peer_python
from benchmarks.speed.offline_probes import write_random

PROBES = "benchmarks.speed.offline_probes"
_SHOW = ("updates_per_second", "bare_updates_per_second", "compile_seconds")


@dataclasses.dataclass(frozen=True)
class OfflineThroughput(Options):
    """Flags of this benchmark."""

    repeats: int = 3
    """Times that every contender runs."""
    pause: float = 1.0
    """Seconds of rest before each run."""
    seconds: float = 5.0
    """Length of each measured while."""
    agents: tuple[str, ...] = ("iql", "td3-bc", "cql")
    """Agents to compare."""
    size: int = 100_000
    """Transitions of the data set."""
    batch_size: int = 256
    """Transitions in a batch."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of all networks."""
    cql_actions: int = 10
    """Actions that CQL samples from each of its three distributions."""


def probe(part: str, flags: list[str], repeat: int) -> Measurement:
    """Runs one part of `offline_probes` in a process of its own."""
    with scratch() as folder:
        finished = Process([sys.executable, "-m", PROBES, part, *flags], Path(folder)).wait()
    printed = json.loads(finished.output.strip().splitlines()[-1])
    return Measurement(printed["values"], printed["versions"])


def contenders(options: OfflineThroughput, data: Path) -> tuple[dict[str, Contender], list[Ratio]]:
    """Three for each agent, and their comparisons."""
    python = peer_python(options.peers, "d3rlpy")
    shared = [
        *("--dataset", str(data), "--seconds", str(options.seconds), "--batch-size", str(options.batch_size)),
        *("--cql-actions", str(options.cql_actions), "--hidden-sizes", *map(str, options.hidden_sizes)),
    ]
    found: dict[str, Contender] = {}
    ratios = []
    for agent in options.agents:
        flags = ["--agent", agent, *shared]
        found[f"maxent_rl {agent}"] = partial(probe, "loop", flags)
        found[f"bare {agent}"] = partial(probe, "bare", flags)
        chunk = "10" if agent == "cql" else "50"  # some tenths of a second each
        found[f"d3rlpy {agent}"] = partial(_peer, python, [*flags, "--chunk", chunk])
        ratios += [
            Ratio("updates_per_second", f"maxent_rl {agent}", (f"{other} {agent}",)) for other in ("d3rlpy", "bare")
        ]
    return found, ratios


def _peer(python: Path, flags: list[str], repeat: int) -> Measurement:
    return measure_peer(python, "d3rlpy_offline.py", flags)


def main() -> int:
    """Measures; returns the exit status."""
    options = tyro.cli(OfflineThroughput, description=__doc__)

    with scratch() as folder:
        data = Path(folder) / "random.npz"
        write_random(data, options.size)
        found, ratios = contenders(options, data)
        result = measure("offline-throughput", found, options, ratios, _SHOW)
    return exit_status(result)


if __name__ == "__main__":
    command_line(main)
