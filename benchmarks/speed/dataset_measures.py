"""What measuring a data set costs, and how well HyperLogLog counts: `python -m benchmarks.speed.dataset_measures`.

    library     maxent_rl.data.measures.quality.measure on a million transitions in memory, beside a reference of as many
    command     experiments/dataset.py measure as a user gets it, from the file to the table; then with a reference and a
                picture
    items       for each number of distinct items: exact count and sketch, seconds of each, and the sketch's error beside
                its standard error

The transitions have the shapes of HalfCheetah (17 entries of observations, 6 of actions): random walks that stay in a box, in
episodes of 1,000 steps. Memory is the peak of the whole process, with the data and all that Python loads.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.lab.measure import (
    ROOT,
    BenchmarkError,
    Contender,
    Measurement,
    Options,
    command_line,
    exit_status,
    measure,
    versions,
)
from benchmarks.lab.processes import scratch
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.files import write_dataset
from maxent_rl.data.measures.coverage import PairCounter
from maxent_rl.data.measures.quality import measure as measure_quality
from maxent_rl.data.measures.sketch import STANDARD_ERROR, Sketch

_PACKAGES = ("maxent_rl", "numpy", "datasketch")
_OBSERVATION, _ACTION, _EPISODE, _CHUNK = 17, 6, 1000, 1 << 20
_SHOW = ("seconds", "cpu_seconds", "peak_memory_mb", "sketch_seconds", "relative_error_percent", "standard_errors")


@dataclasses.dataclass(frozen=True)
class DatasetMeasures(Options):
    """Flags of this benchmark."""

    repeats: int = 3
    """Times that every contender runs."""
    transitions: int = 1_000_000
    """Transitions of the data set, and of the reference."""
    items: tuple[int, ...] = (10_000, 100_000, 1_000_000, 10_000_000)
    """Numbers of distinct items to count."""


def halfcheetah_like(transitions: int, seed: int) -> Dataset:
    """Random walks of HalfCheetah's shapes, in episodes."""
    rng = np.random.default_rng(seed)
    observation = np.empty((transitions + 1, _OBSERVATION), np.float32)
    for entry in range(_OBSERVATION):
        observation[:, entry] = np.abs((0.1 * rng.normal(size=transitions + 1)).cumsum() % 4.0 - 2.0)
    action = rng.uniform(-1.0, 1.0, (transitions, _ACTION)).astype(np.float32)
    truncated = np.arange(transitions) % _EPISODE == _EPISODE - 1
    reward = observation[:-1, 0] - 0.1 * (action**2).sum(axis=1)
    terminated = np.zeros(transitions, bool)
    return Dataset(observation[:-1], action, reward, observation[1:], terminated, truncated, env="HalfCheetah-v5")


def library(transitions: int, repeat: int) -> dict[str, float]:
    """Measures in this process, which is to be a fresh one."""
    data, reference = (halfcheetah_like(transitions, 2 * repeat + each) for each in range(2))
    began, used = time.perf_counter(), time.process_time()
    found = measure_quality(data, reference, random_return=0.0, expert_return=1000.0)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
    # Not getrusage, whose peak a process takes over from the one that started it.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    megabytes = int(status["VmHWM"].split()[0]) * 1024 / 1e6
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_memory_mb": megabytes, "distinct": found.distinct}


def write(folder: str, transitions: int, repeat: int) -> dict[str, float]:
    """Writes a data set and a reference."""
    for index, name in enumerate(("data", "reference")):
        write_dataset(halfcheetah_like(transitions, 2 * repeat + index), Path(folder) / f"{name}.npz")
    return {}


def command(folder: str, flags: list[str]) -> dict[str, float]:
    """Runs the command line; from a process that is small, as its peak is the least that is seen."""
    script = ROOT / "experiments" / "dataset.py"
    began = time.perf_counter()
    with open(Path(folder) / "log", "wb") as log:
        process = subprocess.Popen([sys.executable, str(script), *flags], cwd=folder, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds, megabytes = time.perf_counter() - began, used.ru_maxrss * 1024 / 1e6
    if process.returncode:
        raise BenchmarkError((Path(folder) / "log").read_text().strip().splitlines()[-1])
    return {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_memory_mb": megabytes}


def _fresh(function: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """What a function of this file gives in a process of its own."""
    code = (
        f"import json, benchmarks.speed.dataset_measures as d; print(json.dumps(d.{function.__name__}(*{arguments!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(done.stderr.strip().splitlines()[-1])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _library(transitions: int, repeat: int) -> Measurement:
    return Measurement(_fresh(library, transitions, repeat), versions(*_PACKAGES))


def _command(transitions: int, more: list[str], repeat: int) -> Measurement:
    with scratch() as folder:
        _fresh(write, folder, transitions, repeat)
        flags = ["measure", "data.npz", "--random-return", "0", "--expert-return", "1000", *more]
        return Measurement(_fresh(command, folder, flags), versions(*_PACKAGES))


def items(count: int, repeat: int) -> Measurement:
    """Counts distinct random keys, each of which comes twice."""
    Sketch()  # loads the package
    values: dict[str, float] = {}
    found = {}
    for name, limit in (("seconds", 2 * count), ("sketch_seconds", 0)):
        counter = PairCounter(limit)
        spent = 0.0
        for seed in (repeat, repeat):
            rng = np.random.default_rng([seed, count])
            for start in range(0, count, _CHUNK):
                keys = rng.integers(0, 2**64, min(_CHUNK, count - start), dtype=np.uint64)
                began = time.perf_counter()
                counter.add(keys)
                spent += time.perf_counter() - began
        began = time.perf_counter()
        found[name] = counter.distinct().value
        values[name] = spent + time.perf_counter() - began
    error = found["sketch_seconds"] / found["seconds"] - 1.0
    values |= {"relative_error_percent": 100.0 * error, "standard_errors": error / STANDARD_ERROR}
    return Measurement(values | {"exact": found["seconds"], "estimate": found["sketch_seconds"]}, versions(*_PACKAGES))


def main() -> int:
    """Measures; returns the exit status."""
    options = tyro.cli(DatasetMeasures, description=__doc__)
    contenders: dict[str, Contender] = {
        "library": partial(_library, options.transitions),
        "command": partial(_command, options.transitions, []),
        "command, reference": partial(
            _command, options.transitions, ["--reference", "reference.npz", "--figure", "p.png"]
        ),
    }
    contenders |= {f"{count:,} items": partial(items, count) for count in options.items}
    return exit_status(measure("dataset_measures", contenders, options, (), _SHOW))


if __name__ == "__main__":
    command_line(main)
