"""What the drivers of all peers share: when the command began, which versions run, and the one line that they print.

The drivers run in the peers' own virtual environments, so nothing here imports more than the standard library.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# `time.time()` of the moment at which the benchmark gave the command; imports count as start-up.
STARTED = float(os.environ.get("BENCHMARK_STARTED") or time.time())


def since_command() -> float:
    """Seconds since the command was given."""
    return time.time() - STARTED


def work_parser(description: str) -> argparse.ArgumentParser:
    """A parser of the flags that say what work is measured; all drivers of SAC take them."""
    parser = _task_parser(description, warmup_steps=500, window_steps=3000, hidden_sizes=[256, 256])
    parser.add_argument("--start-steps", type=int, default=100, help="steps before learning")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--replay-size", type=int, default=1_000_000)
    return parser


def on_policy_parser(description: str, num_envs: int) -> argparse.ArgumentParser:
    """A parser of the flags that all drivers of PPO take, with the default number of environments."""
    parser = _task_parser(description, warmup_steps=4096, window_steps=16384, hidden_sizes=[64, 64])
    parser.add_argument("--num-envs", type=int, default=num_envs, help="environments side by side")
    parser.add_argument("--rollout-size", type=int, default=2048, help="steps of an update, all environments together")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the steps of an update")
    parser.add_argument("--minibatches", type=int, default=32, help="gradient steps of a pass")
    return parser


def _task_parser(
    description: str, warmup_steps: int, window_steps: int, hidden_sizes: list[int]
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--env", help="name of the environment")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warmup-steps", type=int, default=warmup_steps, help="steps with learning before the window")
    parser.add_argument("--window-steps", type=int, default=window_steps, help="steps of the measured window")
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=hidden_sizes)
    return parser


def token_parser(description: str, contenders: tuple[str, ...]) -> argparse.ArgumentParser:
    """A parser of the flags that all drivers of token losses take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--contender", choices=contenders, default=contenders[0])
    parser.add_argument("--objective", choices=("grpo", "clip_cov"), default="grpo")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens of all sequences together")
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--width", type=int, default=896, help="of the hidden states")
    parser.add_argument("--iterations", type=int, default=1, help="measured ones, after one that is not timed")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def measure_step(step: Callable[[], dict[str, float]], iterations: int, result_bytes: int) -> dict[str, float]:
    """Memory and time of a step that is done over and over, with everything that it takes already there.

    Args:
      step: does all the work, waits for its end, and returns what it came to; its arrays are gone when it is back.
      iterations: timed ones; before them the step is done once, and that time its memory is measured.
      result_bytes: size of the arrays that the step has to produce; they are no part of `memory_mb`.

    Returns:
      `seconds` (median), `memory_mb` (peak of the resident memory above what was there before and above the results; only
      where Linux tells it), and what the step came to.
    """
    before = _resident("VmRSS")
    if before is not None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
    found = step()
    peak = _resident("VmHWM")
    seconds = []
    for _ in range(iterations):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    values = {"seconds": statistics.median(seconds)}
    if before is not None and peak is not None:
        values["memory_mb"] = (peak - before - result_bytes) / 1e6
    return values | found


def _resident(field: str) -> int | None:
    """VmRSS (now) or VmHWM (peak) of this process in bytes; None where it cannot be told."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(found[0]) * 1024 if found else None


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of packages."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


def report(values: dict[str, float], packages: tuple[str, ...], **more: Any) -> None:
    """Prints what was measured as one line of JSON, the last line of the output."""
    print(json.dumps({"values": values, "versions": versions(*packages), **more}), flush=True)


def check_window(steps: int, updates: int, expected_steps: int, expected_updates: int) -> None:
    """Refuses a measurement in which something else was done than what was asked for."""
    if (steps, updates) != (expected_steps, expected_updates):
        raise SystemExit(
            f"error: the window held {steps} steps and {updates} updates, not {expected_steps} and {expected_updates}."
        )


def speed(seconds: float, steps: int, updates: int, window_began: float, warmup_steps: int) -> dict[str, float]:
    """The numbers of a window.

    Args:
      seconds: length of the window.
      steps: environment steps in it.
      updates: gradient steps in it.
      window_began: seconds from the command to its beginning.
      warmup_steps: environment steps with gradient steps that were taken before it.

    Returns:
      speeds; and, as `startup_seconds`, all that came before the window but for those warm-up steps: imports, building,
      compiling, and the steps without learning.
    """
    return {
        "steps_per_second": steps / seconds,
        "updates_per_second": updates / seconds,
        "seconds": seconds,
        "steps": steps,
        "updates": updates,
        "startup_seconds": window_began - warmup_steps * seconds / steps,
    }
