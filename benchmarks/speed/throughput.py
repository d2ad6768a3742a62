"""Environment steps per second, ours against its peers, with the same work for each.

    python -m benchmarks.speed.throughput host      # SAC on HalfCheetah-v5: ours, SBX, Stable-Baselines3
    python -m benchmarks.speed.throughput device    # SAC on brax/halfcheetah (spring): ours, Brax's own SAC, rejax
    python -m benchmarks.speed.throughput ppo       # PPO on brax/halfcheetah (spring): ours, Brax's own PPO
    python -m benchmarks.speed.throughput ppo-host  # PPO on HalfCheetah-v5: ours, Stable-Baselines3
    python -m benchmarks.speed.throughput experts   # SAC and mixtures of 1 to 8 experts on HalfCheetah-v5, all ours

Same networks, batches, number of environments and gradient steps per environment step; one seed. The window begins after
compiling and after a warm-up with learning.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import tyro

from benchmarks.lab.measure import (
    BenchmarkError,
    Contender,
    Measurement,
    Options,
    Ratio,
    command_line,
    exit_status,
    measure,
)
from benchmarks.speed.contenders import measure_peer, measure_product, peer_python
from benchmarks.speed.work import OnPolicyWork, Task, Work

OURS = "maxent_rl"
_SHOW = ("steps_per_second", "updates_per_second", "startup_seconds", "peak_memory_mb")


@dataclasses.dataclass(frozen=True)
class Shared(Options):
    """What all comparisons have in common."""

    warmup_steps: int = 500
    """Steps with learning before the window."""
    window_steps: int = 3000
    """Steps of the measured window."""
    num_envs: int = 1
    """Environments side by side."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of policy and critics."""
    contenders: tuple[str, ...] = (OURS,)
    """Who runs, in this order."""
    arguments: str = ""
    """Further flags of experiments/run.py, for ours alone."""

    kind: ClassVar[type[Task]]

    def work(self, env: str, backend: str | None = None, **more: Any) -> Any:
        """What each contender does: a `kind` of these settings."""
        shared = {field.name for field in dataclasses.fields(self.kind)} & {f.name for f in dataclasses.fields(self)}
        return self.kind(env=env, backend=backend, **{name: getattr(self, name) for name in shared}, **more)


@dataclasses.dataclass(frozen=True)
class Settings(Shared):
    """What the comparisons of SAC have in common: as many gradient steps as environments follow each vector step."""

    start_steps: int = 1000
    """Steps without learning."""
    batch_size: int = 256
    """Transitions in a batch."""
    replay_size: int = 1_000_000
    """Transitions that the replay buffer holds."""

    kind: ClassVar = Work


@dataclasses.dataclass(frozen=True)
class OnPolicy(Shared):
    """What the comparisons of PPO have in common."""

    warmup_steps: int = 4096
    """Steps with learning before the window."""
    window_steps: int = 40960
    """Steps of the measured window; a multiple of the warm-up, and both of the rollout."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Width of each hidden layer of policy and value function."""
    rollout_size: int = 2048
    """Environment steps of an update, all environments together."""
    epochs: int = 10
    """Passes over the steps of an update."""
    minibatches: int = 32
    """Gradient steps of a pass."""

    kind: ClassVar = OnPolicyWork


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


@dataclasses.dataclass(frozen=True)
class Ppo(OnPolicy):
    """PPO on brax/halfcheetah with spring physics: ours against Brax's own."""

    num_envs: int = 64
    """Environments side by side; a multiple of the minibatches, which Brax fills with whole unrolls."""
    contenders: tuple[str, ...] = (OURS, "brax")
    """Who runs, in this order."""

    name: ClassVar = "throughput-ppo"
    drivers: ClassVar = {"brax": ("brax", "brax_ppo.py")}
    ratios: ClassVar = (Ratio("steps_per_second", OURS, ("brax",)),)
    # The policy, activation and rewards of Brax's PPO.
    as_brax: ClassVar = (
        "--action-distribution tanh_gaussian --state-dependent-std --activation swish --no-normalize-rewards"
    )

    def runs(self) -> Mapping[str, Contender]:
        """The contenders."""
        if self.window_steps % self.warmup_steps or self.num_envs % self.minibatches:
            raise BenchmarkError(
                "--window-steps must be a multiple of --warmup-steps, and --num-envs one of --minibatches."
            )
        return _contenders(self, self.work("brax/halfcheetah", "spring"), self.drivers, [], shlex.split(self.as_brax))


@dataclasses.dataclass(frozen=True)
class PpoHost(OnPolicy):
    """PPO on HalfCheetah-v5 of Gymnasium: ours against Stable-Baselines3."""

    num_envs: int = 8
    """Environments side by side."""
    contenders: tuple[str, ...] = (OURS, "sb3")
    """Who runs, in this order."""

    name: ClassVar = "throughput-ppo-host"
    drivers: ClassVar = {"sb3": ("sb", "sb3_ppo.py")}
    ratios: ClassVar = (Ratio("steps_per_second", OURS, ("sb3",)),)

    def runs(self) -> Mapping[str, Contender]:
        """The contenders."""
        return _contenders(self, self.work("HalfCheetah-v5"), self.drivers, [])


@dataclasses.dataclass(frozen=True)
class Experts(Settings):
    """HalfCheetah-v5 of Gymnasium: what experts cost, as mixtures of them (`--agent pmoe`) against SAC, all ours."""

    contenders: tuple[str, ...] = ("sac", "pmoe 1", "pmoe 2", "pmoe 4", "pmoe 8")
    """Who runs, in this order: sac, or pmoe with a number of experts."""

    name: ClassVar = "throughput-experts"

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """Every mixture against SAC."""
        return tuple(Ratio("steps_per_second", name, ("sac",)) for name in self.contenders if name != "sac")

    def runs(self) -> Mapping[str, Contender]:
        """The contenders."""
        return {name: partial(_ours, *self._one(name)) for name in self.contenders}

    def _one(self, name: str) -> tuple[Work, list[str]]:
        agent, _, experts = name.partition(" ")
        more = shlex.split(self.arguments)
        if name == "sac":
            return self.work("HalfCheetah-v5"), more
        if agent != "pmoe" or not experts.isdecimal():
            raise BenchmarkError(f"Unknown contender {name!r}; there are sac, and pmoe with a number: 'pmoe 4'.")
        return self.work("HalfCheetah-v5", agent=agent), ["--num-experts", experts, *more]


def _contenders(
    settings: Shared, work: Task, drivers: Mapping[str, tuple[str, str]], more: list[str], ours: Sequence[str] = ()
) -> dict[str, Contender]:
    """The contenders of a comparison, with further flags for the peers, and for ours."""
    found: dict[str, Contender] = {}
    for name in settings.contenders:
        if name == OURS:
            found[name] = partial(_ours, work, [*ours, *shlex.split(settings.arguments)])
        elif name in drivers:
            environment, driver = drivers[name]
            found[name] = partial(_peer, peer_python(settings.peers, environment), driver, [*work.flags(), *more])
        else:
            raise BenchmarkError(f"Unknown contender {name!r}; there are: {', '.join((OURS, *drivers))}.")
    return found


def _ours(work: Task, arguments: list[str], repeat: int) -> Measurement:
    return measure_product(work, repeat, arguments)


def _peer(python: Path, driver: str, flags: list[str], repeat: int) -> Measurement:
    return measure_peer(python, driver, [*flags, "--seed", str(repeat)])


def main() -> int:
    """Measures; returns the exit status."""
    settings = tyro.cli(Host | Device | Ppo | PpoHost | Experts, description=__doc__)
    result = measure(settings.name, settings.runs(), settings, settings.ratios, _SHOW)
    return exit_status(result)


if __name__ == "__main__":
    command_line(main)
