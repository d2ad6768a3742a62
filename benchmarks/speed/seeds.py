"""Several seeds in one process against as many processes: `python -m benchmarks.speed.seeds`.

Gradient steps per second of all seeds together, of experiments/run.py on HalfCheetah-v5 and of the bare update loop:

    N seeds                    one process, --num-seeds N
    4 processes                one seed each, all on all cores
    4 processes pinned         one seed each, each kept to one core, cores shared out evenly
    one process per core       as many processes as there are cores (4 at most), each kept to one: 4 seeds in turn

Processes that run side by side are measured over the while that they have in common. JAX's own log says how often the training
step was compiled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import tyro

from benchmarks.lab.measure import (
    BenchmarkError,
    Contender,
    Measurement,
    Options,
    Ratio,
    command_line,
    common_speed,
    exit_status,
    measure,
)
from benchmarks.lab.processes import Process, run_all, scratch
from benchmarks.speed.contenders import Product, read_product, start_product
from benchmarks.speed.work import Work

PROBES = "benchmarks.speed.probes"
_METRIC = "updates_per_second"
_STEP_COMPILED = re.compile(r"Finished XLA compilation of jit\((?:host_step|device_steps)\)")
_PROCESSES = 4


@dataclasses.dataclass(frozen=True)
class Seeds(Options):
    """Flags of this benchmark."""

    repeats: int = 3
    """Times that every contender runs."""
    counts: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of seeds in one process."""
    start_steps: int = 500
    """Steps of each seed without learning."""
    warmup_steps: int = 250
    """Steps of each seed with learning before the window."""
    window_steps: int = 1500
    """Steps of each seed in the measured window."""
    seconds: float = 10.0
    """Length of the measured while of the bare update loop."""
    parts: tuple[str, ...] = ("train", "bare")
    """What to measure: training, the bare update loop."""
    arguments: str = ""
    """Further flags of experiments/run.py."""

    @property
    def work(self) -> Work:
        """What each seed does."""
        return Work(start_steps=self.start_steps, warmup_steps=self.warmup_steps, window_steps=self.window_steps)


def main() -> int:
    """Measures; returns the exit status."""
    options = tyro.cli(Seeds, description=__doc__)
    contenders: dict[str, Contender] = {}
    ratios = []
    for part in options.parts:
        if part not in ("train", "bare"):
            raise BenchmarkError(f"Unknown part {part!r}; there are: train, bare.")
        together = _train_together if part == "train" else _bare_together
        apart = _train_apart if part == "train" else _bare_apart
        for count in options.counts:
            contenders[f"{part}: {count} seed{'s' * (count > 1)}"] = partial(together, options, count)
        for name, pins in _pinnings().items():
            contenders[f"{part}: {name}"] = partial(apart, options, pins)
        separate = [f"{part}: 1 seed", *(f"{part}: {name}" for name in _pinnings())]
        separate = [name for name in separate if name in contenders]
        ratios.append(Ratio(_METRIC, f"{part}: 4 seeds", tuple(separate)))
    result = measure("seeds", contenders, options, ratios, (_METRIC, "compilations", "overlap"))
    return exit_status(result)


def _pinnings() -> dict[str, list[set[int] | None]]:
    """Ways to share the cores among processes: for each process the cores it may use, None for all."""
    if not hasattr(os, "sched_getaffinity"):
        return {f"{_PROCESSES} processes": [None] * _PROCESSES}
    cores = sorted(os.sched_getaffinity(0))
    ways: dict[str, list[set[int] | None]] = {
        f"{_PROCESSES} processes": [None] * _PROCESSES,
        f"{_PROCESSES} processes pinned": [{cores[index % len(cores)]} for index in range(_PROCESSES)],
    }
    if len(cores) < _PROCESSES:
        ways["one process per core"] = [{core} for core in cores]
    return ways


def _train_together(options: Seeds, count: int, repeat: int) -> Measurement:
    flags = [*options.work.product_flags(), "--num-seeds", str(count), "--seed", str(repeat * count)]
    (product,) = _products([[*flags, *shlex.split(options.arguments)]], [None], {"JAX_LOG_COMPILES": "1"})
    (begin, before), (end, after) = product.at(options.work.begin), product.at(options.work.end)
    _check(options.work, after - before)
    compilations = len(_STEP_COMPILED.findall(product.finished.errors))
    values = {_METRIC: count * (after - before) / (end - begin), "compilations": compilations}
    return Measurement(values | {"peak_memory_mb": product.finished.peak_memory / 1e6}, product.versions)


def _train_apart(options: Seeds, pins: list[set[int] | None], repeat: int) -> Measurement:
    flags = [*options.work.product_flags(), *shlex.split(options.arguments)]
    seeds = [repeat * len(pins) + index for index in range(len(pins))]
    products = _products([[*flags, "--seed", str(seed)] for seed in seeds], pins)
    points = []
    for product in products:
        ends = [product.at(options.work.begin), product.at(options.work.end)]
        _check(options.work, ends[1][1] - ends[0][1])
        points.append([(moment, float(updates)) for moment, updates in ends])
    speed, overlap = common_speed(points)
    memory = sum(product.finished.peak_memory for product in products) / 1e6
    return Measurement({_METRIC: speed, "overlap": overlap, "peak_memory_mb": memory}, products[0].versions)


def _check(work: Work, updates: int) -> None:
    if updates != work.window_steps:
        raise BenchmarkError(f"A seed took {updates} gradient steps in {work.window_steps} environment steps.")


def _products(
    flags: Sequence[list[str]], pins: Sequence[set[int] | None], environment: dict[str, str] | None = None
) -> list[Product]:
    """Runs experiments/run.py several times side by side."""
    with contextlib.ExitStack() as stack:
        folders = [Path(stack.enter_context(scratch())) for _ in flags]
        runs = zip(flags, folders, pins, strict=True)
        finished = run_all([start_product(flag, folder, environment, pin) for flag, folder, pin in runs])
        return [read_product(folder, done) for folder, done in zip(folders, finished, strict=True)]


def _bare_together(options: Seeds, count: int, repeat: int) -> Measurement:
    return _probes(["vmap", "--seeds", str(count), "--seconds", str(options.seconds)], [None])


def _bare_apart(options: Seeds, pins: list[set[int] | None], repeat: int) -> Measurement:
    return _probes(["update", "--seconds", str(options.seconds)], pins)


def _probes(flags: list[str], pins: list[set[int] | None]) -> Measurement:
    """Runs a part of probes.py several times side by side."""
    with contextlib.ExitStack() as stack:
        folders = [Path(stack.enter_context(scratch())) for _ in pins]
        meet = ["--meet", stack.enter_context(scratch()), "--parties", str(len(pins))]
        command = [sys.executable, "-m", PROBES, *flags, *meet]
        finished = run_all([Process(command, folder, cores=pin) for folder, pin in zip(folders, pins, strict=True)])
    printed = [json.loads(done.output.strip().splitlines()[-1]) for done in finished]
    speed, overlap = common_speed([process["points"] for process in printed])
    return Measurement({_METRIC: speed, "overlap": overlap}, printed[0]["versions"])


if __name__ == "__main__":
    command_line(main)
