"""How near training comes to what the machine can do: `python -m benchmarks.speed.limits`.

Measured in turn, each in a fresh process, with the shapes of one SAC update on HalfCheetah:

    matmul    the update's matrix products alone: the ceiling of any update that uses XLA's products
    update    SAC().update on a batch that lies on the device: no replay buffer, no environment
    scan      the same, 32 updates in one dispatch
    env       HalfCheetah-v5 alone
    train     experiments/run.py as a user gets it
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from functools import partial
from pathlib import Path

import tyro

from benchmarks.lab.measure import Contender, Measurement, Options, Ratio, command_line, exit_status, measure
from benchmarks.lab.processes import Process, scratch
from benchmarks.speed.contenders import measure_product
from benchmarks.speed.work import Work

PROBES = "benchmarks.speed.probes"
_UPDATES = "updates_per_second"
_RATIOS = (
    Ratio(_UPDATES, "train", ("update",)),
    Ratio(_UPDATES, "train", ("update", "scan")),
    Ratio(_UPDATES, "update", ("matmul",)),
    Ratio(_UPDATES, "scan", ("update",)),
    Ratio(_UPDATES, "train", ("matmul",)),
)
_SHOW = (_UPDATES, "gflops_per_second", "steps_per_second", "compile_seconds")


@dataclasses.dataclass(frozen=True)
class Limits(Options):
    """Flags of this benchmark."""

    seconds: float = 10.0
    """Length of each measured while, but for `train`."""
    start_steps: int = 1000
    """Steps of `train` without learning."""
    warmup_steps: int = 500
    """Steps of `train` with learning before the window."""
    window_steps: int = 3000
    """Steps of the measured window of `train`."""
    batch_size: int = 256
    """Transitions in a batch."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Width of each hidden layer."""
    arguments: str = ""
    """Further flags of experiments/run.py for `train`."""


def probe(part: str, flags: list[str], repeat: int = 0) -> Measurement:
    """Runs one part of `probes` in a process of its own."""
    with scratch() as folder:
        finished = Process([sys.executable, "-m", PROBES, part, *flags], Path(folder)).wait()
    printed = json.loads(finished.output.strip().splitlines()[-1])
    return Measurement(printed["values"], printed["versions"])


def _train(work: Work, arguments: list[str], repeat: int) -> Measurement:
    return measure_product(work, repeat, arguments)


def main() -> int:
    """Measures; returns the exit status."""
    options = tyro.cli(Limits, description=__doc__)
    shapes = ["--batch-size", str(options.batch_size), "--hidden-sizes", *map(str, options.hidden_sizes)]
    flags = ["--seconds", str(options.seconds), *shapes]
    work = Work(
        start_steps=options.start_steps,
        warmup_steps=options.warmup_steps,
        window_steps=options.window_steps,
        batch_size=options.batch_size,
        hidden_sizes=options.hidden_sizes,
    )
    parts: dict[str, Contender] = {part: partial(probe, part, flags) for part in ("matmul", "update", "scan", "env")}
    parts["train"] = partial(_train, work, shlex.split(options.arguments))
    result = measure("limits", parts, options, _RATIOS, _SHOW)
    return exit_status(result)


if __name__ == "__main__":
    command_line(main)
