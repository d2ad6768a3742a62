"""The most memory that a training takes: `python -m benchmarks.speed.memory`.

Peak resident memory of the whole process, with a replay buffer of a million transitions of HalfCheetah-v5 of which every
page is in use: ours takes its memory at once, the peers' drivers write to every page at the start (NumPy's zeros take none
until then).
"""

from __future__ import annotations

import dataclasses
import shlex
from functools import partial
from pathlib import Path

import tyro

from benchmarks.lab.measure import Contender, Measurement, Options, Ratio, command_line, exit_status, measure
from benchmarks.speed.contenders import measure_peer, measure_product, peer_python
from benchmarks.speed.work import Work

_METRIC = "peak_memory_mb"


@dataclasses.dataclass(frozen=True)
class Memory(Options):
    """Flags of this benchmark."""

    repeats: int = 3
    """Times that every contender runs."""
    start_steps: int = 1000
    """Steps without learning."""
    warmup_steps: int = 500
    """Steps with learning before those of the window."""
    window_steps: int = 500
    """Further steps with learning."""
    replay_size: int = 1_000_000
    """Transitions that the replay buffer holds."""
    arguments: str = ""
    """Further flags of experiments/run.py."""


def main() -> int:
    """Measures; returns the exit status."""
    options = tyro.cli(Memory, description=__doc__)
    work = Work(
        start_steps=options.start_steps,
        warmup_steps=options.warmup_steps,
        window_steps=options.window_steps,
        replay_size=options.replay_size,
    )
    contenders: dict[str, Contender] = {
        "maxent_rl": partial(_ours, work, shlex.split(options.arguments)),
        "sbx": partial(_peer, peer_python(options.peers, "sb"), work, "sbx_sac.py"),
        "sb3": partial(_peer, peer_python(options.peers, "sb"), work, "sb3_sac.py"),
    }
    ratios = [Ratio(_METRIC, "maxent_rl", (peer,)) for peer in ("sbx", "sb3")]
    result = measure("memory", contenders, options, ratios, (_METRIC,))
    return exit_status(result)


def _ours(work: Work, arguments: list[str], repeat: int) -> Measurement:
    return _memory_alone(measure_product(work, repeat, arguments))


def _peer(python: Path, work: Work, driver: str, repeat: int) -> Measurement:
    flags = [*work.flags(), "--touch-replay", "--seed", str(repeat)]
    return _memory_alone(measure_peer(python, driver, flags))


def _memory_alone(measured: Measurement) -> Measurement:
    """Speeds over so few steps would only mislead."""
    kept = ("steps", "updates", _METRIC)
    return measured._replace(values={_METRIC: measured.values[_METRIC]} | {key: measured.values[key] for key in kept})


if __name__ == "__main__":
    command_line(main)
