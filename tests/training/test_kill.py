"""A killed run goes on to the same numbers: real processes, `kill -9` at three random moments, bit for bit."""

import random
import shlex

import pytest
from run_processes import assert_same, finish, kill_at, start_run

FLAGS = "--num-seeds 2 --hidden-sizes 32 32 --batch-size 32 --start-steps 200 --log-every 100 --checkpoint-every 250"
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


@pytest.mark.slow
@pytest.mark.parametrize("env", CASES)
def test_a_run_killed_three_times_equals_one_never_killed(env, tmp_path):
    folder_name, flags = CASES[env]
    total = int(flags.split("--total-steps ")[1].split()[0])
    common = ["--env", env, *shlex.split(flags), "--output-dir", str(tmp_path)]
    finish(start_run(*common, "--name", "whole"))
    whole, killed = (tmp_path / folder_name / "sac" / name for name in ("whole", "killed"))

    draw = random.Random(20261123)
    process = start_run(*common, "--name", "killed")
    for number in range(3):
        step = total * (number + draw.random()) * 0.25  # leaves the last quarter for the end of the run
        kill_at(process, killed, step, delay=draw.random() * 0.05)
        process = start_run("--resume", str(killed))
    finish(process)

    assert_same(killed, whole)
