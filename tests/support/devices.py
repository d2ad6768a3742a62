"""The same loops on one device and on several, in one process of its own: JAX fixes the number of devices as it begins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from run_processes import finish, host_devices, start_python

# The process sees as many as the largest mesh has, and each run is told of its share.
EACH = """
import sys, jax, numpy as np
from unittest import mock
out, *counts = sys.argv[1:]
for count in map(int, counts):
    local = jax.local_devices()[:count]
    with mock.patch("jax.local_devices", lambda: local):
        np.savez(f"{out}/{count}.npz", **run(count))
    jax.clear_caches()
"""


def run_on_devices(test: str, script: str, counts: Sequence[int], folder: Path) -> list[dict[str, np.ndarray]]:
    """What a script finds on each number of devices.

    Args:
      test: `__file__` of the test, beside which and in `tests` the script may import.
      script: defines `run(devices)`, which gives arrays by name and sees so many of `jax.local_devices()`.
      counts: numbers of devices.
      folder: for what is found.
    """
    path = os.pathsep.join([str(Path(test).parent), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    process = start_python(
        "-c", script + EACH, str(folder), *map(str, counts), **host_devices(max(counts)), PYTHONPATH=path
    )
    finish(process)
    return [dict(np.load(folder / f"{count}.npz")) for count in counts]
