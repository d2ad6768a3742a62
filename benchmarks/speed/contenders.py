"""Who is measured: ours as a user starts it, and the peers by their drivers.

Ours is `experiments/run.py` in a fresh process; what it did is read from its metrics.csv, and the moments from that file's
last write. Nothing of maxent_rl is imported here, so that starting the benchmark warms nothing up.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.lab.measure import ROOT, SPEED, BenchmarkError, Measurement
from benchmarks.lab.processes import Finished, Process, scratch
from benchmarks.speed.work import Task

PEERS = SPEED / "peers"


class Product(NamedTuple):
    """A run of experiments/run.py.

    Attributes:
      rows: of metrics.csv, those of the first seed.
      last_write: `time.time()` at which the last of them was written.
      versions: of its config.json.
      finished: the process.
    """

    rows: list[dict[str, float]]
    last_write: float
    versions: dict[str, str]
    finished: Finished

    def at(self, step: int) -> tuple[float, int]:
        """`time.time()` at which a step was logged, and gradient steps until then."""
        for row in self.rows:
            if row["step"] == step:
                return self.last_write - (self.rows[-1]["seconds"] - row["seconds"]), int(row["updates"])
        raise BenchmarkError(f"metrics.csv has no row of step {step}.")


def start_product(
    flags: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None, cores: Iterable[int] | None = None
) -> Process:
    """Starts experiments/run.py with its records below `folder`."""
    run = [sys.executable, str(ROOT / "experiments" / "run.py"), *flags, "--output-dir", str(folder / "runs")]
    return Process(run, folder, environment, cores)


def read_product(folder: Path, finished: Finished) -> Product:
    """Reads what a run of experiments/run.py left."""
    (config,) = (folder / "runs").glob("*/*/*/config.json")
    metrics = config.with_name("metrics.csv")
    with metrics.open(newline="") as file:
        rows = [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(file)]
    rows = [row for row in rows if row["seed"] == rows[0]["seed"]]
    return Product(rows, metrics.stat().st_mtime, json.loads(config.read_text())["versions"], finished)


def run_product(
    flags: Sequence[str], environment: Mapping[str, str] | None = None, cores: Iterable[int] | None = None
) -> Product:
    """Runs experiments/run.py and reads its records, which are then removed."""
    with scratch() as folder:
        return read_product(Path(folder), start_product(flags, Path(folder), environment, cores).wait())


def measure_product(work: Task, seed: int, more: Sequence[str] = ()) -> Measurement:
    """Measures ours: environment steps and gradient steps per second between two lines of metrics.csv.

    Raises:
      BenchmarkError: the window held another number of gradient steps than it had to.
    """
    product = run_product([*work.product_flags(), "--seed", str(seed), *more])
    (begin, updates_before), (end, updates_after) = product.at(work.begin), product.at(work.end)
    seconds, steps = end - begin, work.window_steps
    updates = (updates_after - updates_before) * work.gradient_steps_per_update
    if updates != work.gradient_steps:
        raise BenchmarkError(
            f"maxent_rl took {updates} gradient steps in {steps} environment steps, not {work.gradient_steps}."
        )
    warmup = work.warmup_steps * seconds / steps
    values = {
        "steps_per_second": steps / seconds,
        "updates_per_second": updates / seconds,
        "seconds": seconds,
        "steps": steps,
        "updates": updates,
        "startup_seconds": begin - product.finished.started - warmup,
        "peak_memory_mb": product.finished.peak_memory / 1e6,
    }
    return Measurement(values, product.versions)


def peer_python(peers: Path, name: str) -> Path:
    """The Python of a peers' virtual environment.

    Raises:
      BenchmarkError: it has not been made.
    """
    python = peers.absolute() / name / "bin" / "python"
    if not python.exists():
        raise BenchmarkError(f"{python} does not exist: make it with benchmarks/speed/peers/make.sh {name}.")
    return python


def measure_peer(
    python: Path,
    driver: str,
    flags: Sequence[str],
    environment: Mapping[str, str] | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Measurement:
    """Runs a peer's driver and takes the measurement that it prints.

    Args:
      python: of the peer's virtual environment.
      driver: file in benchmarks/speed/peers.
      flags: for it.
      environment: variables besides ours.
      meanwhile: called every second; what it raises ends the driver.
    """
    with scratch() as folder:
        alone = {"PYTHONPATH": ""} | dict(environment or {})  # nothing of ours in the peer's environment
        finished = Process([str(python), str(PEERS / driver), *flags], Path(folder), alone).wait(meanwhile)
    printed: dict[str, Any] = json.loads(finished.output.strip().splitlines()[-1])
    values = printed.pop("values") | {"peak_memory_mb": finished.peak_memory / 1e6}
    return Measurement(values, printed.pop("versions"), printed)
