"""What the drivers of all peers share: when the command began, which versions run, and the one line that they print.

The drivers run in the peers' own virtual environments, so nothing here imports more than the standard library.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import time
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
