"""Wall-clock until the evaluation return passes 1,000, 3,000 and 5,000: `python -m benchmarks.speed.time_to_return`.

The clock starts with the command, so imports and compiling count; it stands still during evaluations (ten episodes of the
most likely actions every 5,000 steps, for everyone alike). A return is passed at the first evaluation above it, so the
resolution is that of the evaluations; the interpolated time, between the two evaluations around it, is given too. Every
contender uses its own defaults, whatever they are. Each repeat is a seed of its own.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
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
from benchmarks.lab.processes import Process, scratch
from benchmarks.speed.contenders import PEERS, peer_python

TIMED_RUN = "benchmarks.speed.timed_run"


@dataclasses.dataclass(frozen=True)
class Returns(Options):
    """Flags of this benchmark."""

    repeats: int = 2
    """Seeds that every contender trains, one after the other."""
    first_seed: int = 0
    """The first seed."""
    env: str = "HalfCheetah-v5"
    """Gymnasium id of the environment."""
    thresholds: tuple[float, ...] = (1000.0, 3000.0, 5000.0)
    """Returns to pass; a run stops when two evaluations have passed the last."""
    max_steps: int = 300_000
    """Steps after which a run is stopped anyway."""
    eval_every: int = 5_000
    """Steps between evaluations."""
    eval_episodes: int = 10
    """Episodes of an evaluation."""
    contenders: tuple[str, ...] = ("maxent_rl", "fast", "sbx")
    """Of: maxent_rl (our defaults), fast (--fast-arguments), efficient (--preset efficient), sbx (SBX's
    defaults, learning after 100 steps), sbx-zoo (as SBX's authors' collection of settings has it for MuJoCo: learning after
    10,000 steps)."""
    fast_arguments: str = "--preset fast"
    """Flags of experiments/run.py that make ours `fast`."""
    arguments: str = ""
    """Further flags of experiments/run.py for both of ours."""


def main() -> int:
    """Measures; returns the exit status."""
    options = tyro.cli(Returns, description=__doc__)
    ratios = [
        Ratio(f"seconds_to_{threshold:.0f}", contender, (peer,))
        for peer in ("sbx", "sbx-zoo")
        for contender in ("fast", "maxent_rl")
        for threshold in options.thresholds
    ]
    ratios += [Ratio(f"seconds_to_{threshold:.0f}", "efficient", ("fast",)) for threshold in options.thresholds]
    show = [f"{what}_to_{threshold:.0f}" for what in ("seconds", "steps") for threshold in options.thresholds]
    result = measure("time_to_return", _contenders(options), options, ratios, show)
    return exit_status(result)


def _contenders(options: Returns) -> dict[str, Contender]:
    ours = ["--agent", "sac", "--env", options.env, "--total-steps", str(options.max_steps)]
    ours += ["--eval-every", str(options.eval_every), "--eval-episodes", str(options.eval_episodes)]
    ours += shlex.split(options.arguments)
    known: dict[str, Contender] = {
        "maxent_rl": partial(_ours, options, "maxent_rl", ours),
        "fast": partial(_ours, options, "fast", [*ours, *shlex.split(options.fast_arguments)]),
        "efficient": partial(_ours, options, "efficient", [*ours, "--preset", "efficient"]),
        "sbx": partial(_sbx, options, "sbx", 100),
        "sbx-zoo": partial(_sbx, options, "sbx-zoo", 10_000),
    }
    if set(options.contenders) & {"sbx", "sbx-zoo"}:
        peer_python(options.peers, "sb")  # missing ones are told before anything runs
    unknown = [name for name in options.contenders if name not in known]
    if unknown:
        raise BenchmarkError(f"Unknown contender {unknown[0]!r}; there are: {', '.join(known)}.")
    return {name: known[name] for name in options.contenders}


def _ours(options: Returns, name: str, flags: list[str], repeat: int) -> Measurement:
    seed = options.first_seed + repeat
    with scratch() as folder:
        curve = _curve_file(options, name, seed)
        clock = [sys.executable, "-m", TIMED_RUN, str(curve), str(options.thresholds[-1])]
        command = [*clock, *flags, "--seed", str(seed), "--output-dir", str(Path(folder) / "runs")]
        Process(command, Path(folder)).wait(Teller(curve))
        (config,) = (Path(folder) / "runs").glob("*/*/*/config.json")
        described = json.loads(config.read_text())
    described["run"]["output_dir"] = "runs"  # it was a folder for this measurement alone
    settings = {"run": described["run"], "agent": described["agent"]}
    return _measured(options, curve, described["versions"], settings)


def _sbx(options: Returns, name: str, start_steps: int, repeat: int) -> Measurement:
    seed = options.first_seed + repeat
    with scratch() as folder:
        curve = _curve_file(options, name, seed)
        command = [
            *(str(peer_python(options.peers, "sb")), str(PEERS / "sbx_sac.py")),
            *("--env", options.env, "--seed", str(seed), "--start-steps", str(start_steps), "--curve", str(curve)),
            *("--evaluate-every", str(options.eval_every), "--eval-episodes", str(options.eval_episodes)),
            *("--max-steps", str(options.max_steps), "--stop-return", str(options.thresholds[-1])),
        ]
        finished = Process(command, Path(folder), {"PYTHONPATH": ""}).wait(Teller(curve))
    printed = json.loads(finished.output.strip().splitlines()[-1])
    return _measured(options, curve, printed["versions"], {"learning_starts": start_steps})


def _curve_file(options: Returns, name: str, seed: int) -> Path:
    """The file that a run's evaluations are appended to as they come, so that an interrupted run leaves its curve."""
    curve = options.output.absolute() / "time_to_return" / f"{name}-seed{seed}.jsonl"
    curve.parent.mkdir(parents=True, exist_ok=True)
    curve.unlink(missing_ok=True)
    return curve


class Teller:
    """Shows the evaluations of a run as they come."""

    def __init__(self, curve: Path) -> None:
        self._curve, self._shown = curve, 0

    def __call__(self) -> None:
        """Shows what is new."""
        rows = read_curve(self._curve)
        for row in rows[self._shown :]:
            text = f"    step {row['step']:,.0f} | {row['seconds']:,.0f} s | return {row['return_mean']:,.0f}"
            print(text, file=sys.stderr, flush=True)
        self._shown = len(rows)


def read_curve(path: Path) -> list[dict[str, float]]:
    """The evaluations of a run: step, seconds, return_mean."""
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _measured(options: Returns, curve: Path, versions: dict[str, str], settings: dict[str, object]) -> Measurement:
    rows = read_curve(curve)
    values = crossings(rows, options.thresholds)
    if rows:
        values |= {"last_step": rows[-1]["step"], "best_return": max(row["return_mean"] for row in rows)}
    return Measurement(values, versions, {"curve": rows, "contender_settings": settings})


def crossings(rows: Sequence[Mapping[str, float]], thresholds: Sequence[float]) -> dict[str, float]:
    """When a curve passes returns.

    Args:
      rows: evaluations with step, seconds and return_mean.
      thresholds: returns to pass.

    Returns:
      For each threshold T that was passed: seconds_to_T and steps_to_T of the first evaluation above it, and
      interpolated_seconds_to_T, on the line from the evaluation before. What was never passed is missing.
    """
    found: dict[str, float] = {}
    for threshold in thresholds:
        for index, row in enumerate(rows):
            if row["return_mean"] <= threshold:
                continue
            seconds = row["seconds"]
            if index:
                before = rows[index - 1]
                share = (threshold - before["return_mean"]) / (row["return_mean"] - before["return_mean"])
                seconds = before["seconds"] + share * (row["seconds"] - before["seconds"])
            found[f"seconds_to_{threshold:.0f}"] = row["seconds"]
            found[f"steps_to_{threshold:.0f}"] = row["step"]
            found[f"interpolated_seconds_to_{threshold:.0f}"] = seconds
            break
    return found


if __name__ == "__main__":
    command_line(main)
