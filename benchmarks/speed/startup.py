"""From the command to the first gradient step: `python -m benchmarks.speed.startup`.

Each contender runs twice in a repeat: cold, with an empty folder for compiled programs, and warm, with the folder as the
cold run left it. "Cold" is so for compiled programs alone: the files of Python packages may lie in the system's cache both
times. Every contender takes 100 uniform steps first (the default of SBX and Stable-Baselines3; ours gets --start-steps 100).
"""

from __future__ import annotations

import dataclasses
import shlex
import tempfile
from collections.abc import Callable
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
    exit_status,
    measure,
)
from benchmarks.speed.contenders import Product, measure_peer, peer_python, run_product

_METRIC = "first_update_seconds"


@dataclasses.dataclass(frozen=True)
class Startup(Options):
    """Flags of this benchmark."""

    env: str = "HalfCheetah-v5"
    """Gymnasium id of the environment."""
    start_steps: int = 100
    """Uniform steps before the first gradient step."""
    contenders: tuple[str, ...] = ("maxent_rl", "sbx", "sb3")
    """Who runs; sb3 compiles nothing, so it runs once in a repeat."""
    cache_variable: str = "JAX_COMPILATION_CACHE_DIR"
    """Environment variable that names the folder for compiled programs. SBX sets none by itself; here it gets one too."""
    arguments: str = ""
    """Further flags of experiments/run.py."""


class Caches:
    """A folder for compiled programs for each contender, emptied before a cold run."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, contender: str, repeat: int, warm: bool) -> Path:
        """The folder to run with; a cold run makes a new one, the warm run after it takes the same."""
        folder = self._root / f"{contender}-{repeat}"
        if warm and not folder.exists():
            raise BenchmarkError("There was no cold run before this warm one.")
        folder.mkdir(exist_ok=warm)
        return folder


def main() -> int:
    """Measures; returns the exit status."""
    options = tyro.cli(Startup, description=__doc__)
    with tempfile.TemporaryDirectory(prefix="maxent_rl-benchmark-") as root:
        contenders = _contenders(options, Caches(Path(root)))
        ratios = [Ratio(_METRIC, f"maxent_rl {how}", (f"sbx {how}",)) for how in ("cold", "warm")]
        result = measure("startup", contenders, options, ratios, (_METRIC, "built_seconds", "compiled_programs"))
    return exit_status(result)


def _contenders(options: Startup, caches: Caches) -> dict[str, Contender]:
    found: dict[str, Contender] = {}
    if set(options.contenders) & {"sbx", "sb3"}:
        peer_python(options.peers, "sb")  # missing ones are told before anything runs
    runs: dict[str, Callable[..., Measurement]] = {"maxent_rl": _ours, "sbx": partial(_peer, "sbx_sac.py")}
    for name in options.contenders:
        if name == "sb3":
            found[name] = lambda repeat: _peer("sb3_sac.py", options, {}, repeat)
        elif name in runs:
            for how in ("cold", "warm"):
                found[f"{name} {how}"] = partial(_cached, options, caches, name, runs[name], how == "warm")
        else:
            raise BenchmarkError(f"Unknown contender {name!r}; there are: maxent_rl, sbx, sb3.")
    return found


def _cached(
    options: Startup, caches: Caches, name: str, run: Callable[..., Measurement], warm: bool, repeat: int
) -> Measurement:
    cache = caches.folder(name, repeat, warm)
    measured = run(options, {options.cache_variable: str(cache)}, repeat)
    programs = sum(1 for file in cache.rglob("*") if file.is_file() and not file.name.endswith("-atime"))
    return measured._replace(values=measured.values | {"compiled_programs": programs})


def _ours(options: Startup, environment: dict[str, str], repeat: int) -> Measurement:
    """The first line of metrics.csv is that of the first gradient step: it is written once the step is done."""
    first = options.start_steps + 1
    flags = ["--agent", "sac", "--env", options.env, "--seed", str(repeat), "--start-steps", str(options.start_steps)]
    flags += ["--total-steps", str(first), "--log-every", str(first), "--eval-every", "0", "--eval-episodes", "1"]
    product: Product = run_product([*flags, *shlex.split(options.arguments)], environment)
    moment, updates = product.at(first)
    if updates != 1:
        raise BenchmarkError(f"maxent_rl had taken {updates} gradient steps at step {first}, not one.")
    began = product.finished.started
    values = {_METRIC: moment - began, "built_seconds": moment - product.rows[-1]["seconds"] - began}
    return Measurement(values, product.versions)


def _peer(driver: str, options: Startup, environment: dict[str, str], repeat: int) -> Measurement:
    flags = ["--env", options.env, "--start-steps", str(options.start_steps), "--first-update", "--seed", str(repeat)]
    return measure_peer(peer_python(options.peers, "sb"), driver, flags, environment)


if __name__ == "__main__":
    command_line(main)
