"""A killed run goes on to the same numbers: real processes, `kill -9` at three random moments, bit for bit."""

import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from maxent_rl.training.checkpoints import Checkpoints
from maxent_rl.training.recorder import read_csv

RUN = Path(__file__).parents[2] / "experiments" / "run.py"
FLAGS = "--num-seeds 2 --hidden-sizes 32 32 --batch-size 32 --start-steps 200 --log-every 100 --checkpoint-every 250"
TIMING = {"seconds", "steps_per_second"}
CASES = {
    "HalfCheetah": (
        "HalfCheetah-v5",
        f"{FLAGS} --total-steps 4000 --eval-every 1500 --eval-episodes 1 --replay-size 3000",
    ),
    "brax/inverted_pendulum": (
        "brax-inverted_pendulum",
        f"{FLAGS} --total-steps 3000 --eval-every 0 --eval-episodes 1",
    ),
}


def start(*flags):
    return subprocess.Popen(
        [sys.executable, str(RUN), *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    output, _ = process.communicate(timeout=600)
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


@pytest.mark.slow
@pytest.mark.parametrize("env", CASES)
def test_a_run_killed_three_times_equals_one_never_killed(env, tmp_path):
    folder_name, flags = CASES[env]
    total = int(flags.split("--total-steps ")[1].split()[0])
    common = ["--env", env, *shlex.split(flags), "--output-dir", str(tmp_path)]
    finish(start(*common, "--name", "whole"))
    whole, killed = (tmp_path / folder_name / "sac" / name for name in ("whole", "killed"))

    draw = random.Random(20261123)
    process = start(*common, "--name", "killed")
    for number in range(3):
        step = total * (number + draw.random()) * 0.25  # leaves the last quarter for the end of the run
        kill_at(process, killed, step, delay=draw.random() * 0.05)
        process = start("--resume", str(killed))
    finish(process)

    (tables, arrays), (tables_killed, arrays_killed) = record(whole), record(killed)
    np.testing.assert_equal(tables_killed, tables)
    assert arrays.keys() == arrays_killed.keys()
    for name in arrays:
        np.testing.assert_array_equal(arrays_killed[name], arrays[name], err_msg=name)
