"""Real processes that run experiments/run.py: started, killed at a step, and what they left compared to the bit."""

import functools
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from maxent_rl.runs.checkpoints import Checkpoints
from maxent_rl.runs.records import read_csv

RUN = Path(__file__).parents[1] / "experiments" / "run.py"
TIMING = {"seconds", "steps_per_second"}


def start_python(*arguments, **environment):
    """Starts Python, with variables added to the environment."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
    )


def start_run(*flags, **environment):
    return start_python(str(RUN), *flags, **environment)


@functools.cache
def command(name):
    """The module of a command line, such as `run`."""
    spec = importlib.util.spec_from_file_location(f"experiments_{name}", RUN.with_name(f"{name}.py"))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_here(*flags):
    """The same command in this process, for runs that nobody kills: Python and JAX need not begin once more."""
    assert command("run").main(list(flags)) == 0


def host_devices(count):
    """Variables that make JAX see so many CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    return {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def finish(process):
    try:
        output, _ = process.communicate(timeout=600)
    finally:
        process.kill()  # one that hangs must not outlive its test
    assert process.returncode == 0, output


def last_step(folder):
    metrics = folder / "metrics.csv"
    rows = read_csv(metrics) if metrics.exists() else []
    return int(rows[-1]["step"]) if rows else 0


def has_checkpoint(folder):
    checkpoints = folder / "checkpoints"
    return checkpoints.exists() and any(path.name.isdigit() for path in checkpoints.iterdir())


def kill_at(process, folder, step, delay):
    """Kills once there is a checkpoint, `step` has been logged, and `delay` seconds have passed."""
    deadline = time.monotonic() + 600
    while not (has_checkpoint(folder) and last_step(folder) >= step):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def record(folder):
    tables = [
        [{key: value for key, value in row.items() if key not in TIMING} for row in read_csv(folder / name)]
        for name in ("metrics.csv", "eval.csv")
    ]
    checkpoints = Checkpoints(folder / "checkpoints", keep=2)
    arrays, _ = checkpoints.restore(checkpoints.steps()[-1])
    checkpoints.close()
    return tables, arrays


def assert_same(folder, expected):
    """The same tables, and the same arrays in the last checkpoint, to the bit."""
    (tables, arrays), (expected_tables, expected_arrays) = record(folder), record(expected)
    np.testing.assert_equal(tables, expected_tables)
    assert arrays.keys() == expected_arrays.keys()
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], expected_arrays[name], err_msg=name)
