"""What the drivers of all peers share: when the command began, which versions run, and the one line that they print.

The drivers run in the peers' own virtual environments, so nothing here imports more than the standard library.
"""

from __future__ import annotations

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
