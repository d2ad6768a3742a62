"""Environment steps per second of SAC, ours against its peers, with the same work for each.

    python benchmarks/throughput.py host      # HalfCheetah-v5: ours, SBX, Stable-Baselines3
    python benchmarks/throughput.py device    # brax/halfcheetah (spring): ours, Brax's own SAC, rejax

Same networks, batch, replay size, number of environments and gradient steps per environment step; one seed. The window begins
after compiling and after a warm-up with learning.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import tyro
from common import BenchmarkError, Contender, Measurement, Options, Ratio, command_line, exit_status, measure
from contenders import Work, measure_peer, measure_product, peer_python

OURS = "maxent_rl"
_SHOW = ("steps_per_second", "updates_per_second", "startup_seconds", "peak_memory_mb")


@dataclasses.dataclass(frozen=True)
class Settings(Options):
    """What host and device comparisons have in common."""

    start_steps: int = 1000
    """Steps without learning."""
    warmup_steps: int = 500
    """Steps with learning before the window."""
    window_steps: int = 3000
    """Steps of the measured window."""
    num_envs: int = 1
    """Environments side by side; as many gradient steps follow each vector step."""
    batch_size: int = 256
    """Transitions in a batch."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of policy and critics."""
    replay_size: int = 1_000_000
    """Transitions that the replay buffer holds."""
    contenders: tuple[str, ...] = (OURS,)
    """Who runs, in this order."""
    arguments: str = ""
    """Further flags of experiments/run.py, for ours alone."""

    def work(self, env: str, backend: str | None = None) -> Work:
        """What each contender does."""
        shared = {field.name for field in dataclasses.fields(Work)} - {"env", "backend"}
        return Work(env=env, backend=backend, **{name: getattr(self, name) for name in shared})


@dataclasses.dataclass(frozen=True)
class Host(Settings):
    """HalfCheetah-v5 of Gymnasium: ours against SBX and Stable-Baselines3."""

    contenders: tuple[str, ...] = (OURS, "sbx", "sb3")
    """Who runs, in this order."""

    name: ClassVar = "throughput-host"
    drivers: ClassVar = {"sbx": ("sb", "sbx_sac.py"), "sb3": ("sb", "sb3_sac.py")}
    ratios: ClassVar = (Ratio("steps_per_second", OURS, ("sbx",)), Ratio("steps_per_second", OURS, ("sb3",)))

    def runs(self) -> Mapping[str, Contender]:
        """The contenders."""
        if self.num_envs != 1:
            raise BenchmarkError("--num-envs: the host comparison has one environment, SBX's and SB3's default.")
        return _contenders(self, self.work("HalfCheetah-v5"), self.drivers, [])


@dataclasses.dataclass(frozen=True)
class Device(Settings):
    """brax/halfcheetah with spring physics: ours against Brax's own SAC and rejax."""

    start_steps: int = 2000
    """Steps without learning."""
    warmup_steps: int = 1000
    """Steps with learning before the window; the peers train in chunks of this length."""
    window_steps: int = 4000
    """Steps of the measured window; a multiple of the warm-up."""
    num_envs: int = 4
    """Environments side by side; as many gradient steps follow each vector step."""
    replay_size: int = 131_072
    """Transitions that the replay buffer holds: rejax's default, whose sampling takes time in proportion to it."""
    contenders: tuple[str, ...] = (OURS, "brax", "rejax")
    """Who runs, in this order."""

    name: ClassVar = "throughput-device"
    drivers: ClassVar = {"brax": ("brax", "brax_sac.py"), "rejax": ("brax", "rejax_sac.py")}
    ratios: ClassVar = (
        Ratio("steps_per_second", OURS, ("brax", "rejax")),
        Ratio("steps_per_second", OURS, ("brax",)),
        Ratio("steps_per_second", OURS, ("rejax",)),
    )

    def runs(self) -> Mapping[str, Contender]:
        """The contenders."""
        if self.window_steps % self.warmup_steps or self.warmup_steps % self.num_envs:
            raise BenchmarkError("--window-steps must be a multiple of --warmup-steps, and that of --num-envs.")
        more = ["--num-envs", str(self.num_envs)]
        return _contenders(self, self.work("brax/halfcheetah", "spring"), self.drivers, more)


def _contenders(
    settings: Settings, work: Work, drivers: Mapping[str, tuple[str, str]], more: list[str]
) -> dict[str, Contender]:
    found: dict[str, Contender] = {}
    for name in settings.contenders:
        if name == OURS:
            found[name] = partial(_ours, work, shlex.split(settings.arguments))
        elif name in drivers:
            environment, driver = drivers[name]
            found[name] = partial(_peer, peer_python(settings.peers, environment), driver, [*work.flags(), *more])
        else:
            raise BenchmarkError(f"Unknown contender {name!r}; there are: {', '.join((OURS, *drivers))}.")
    return found


def _ours(work: Work, arguments: list[str], repeat: int) -> Measurement:
    return measure_product(work, repeat, arguments)


def _peer(python: Path, driver: str, flags: list[str], repeat: int) -> Measurement:
    return measure_peer(python, driver, [*flags, "--seed", str(repeat)])


def main() -> int:
    """Measures; returns the exit status."""
    settings = tyro.cli(Host | Device, description=__doc__)
    result = measure(settings.name, settings.runs(), settings, settings.ratios, _SHOW)
    return exit_status(result)


if __name__ == "__main__":
    command_line(main)
