"""`experiments/sweep.py` with real processes: stopped, killed and on a Ray cluster that loses a node, it ends the same."""

import contextlib
import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from maxent_rl.runs.checkpoints import Checkpoints
from maxent_rl.runs.records import read_csv

ROOT = Path(__file__).parents[2]
SWEEP, RUN = ROOT / "experiments" / "sweep.py", ROOT / "experiments" / "run.py"
STEPS = 1500
# Two jobs of two variants and two seeds, each on one core: XLA rounds sums differently with another number of threads.
SETTINGS = (
    f"--num-seeds 2 --total-steps {STEPS} --eval-every 500 --eval-episodes 1 --log-every 50 --checkpoint-every 250 "
    "--device cpu"
)
HYPER = "hidden-sizes=32x32 replay-size=1000 start-steps=100"
FLAGS = (
    f"--agents sac --envs Pendulum {SETTINGS} --set {HYPER} batch-size=16,24 learning-rate=1e-3,3e-4 --cpus-per-job 1"
)
JOBS = ("Pendulum-v1/sac/batch_size=16,seeds0-1", "Pendulum-v1/sac/batch_size=24,seeds0-1")
needs_proc = pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc for processes")
TIMING = {"seconds", "steps_per_second"}


@pytest.fixture(scope="module")
def main():
    """The command without a process of its own, for what ends before a job begins."""
    spec = importlib.util.spec_from_file_location("experiments_sweep", SWEEP)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def where(folder):
    return "--output-dir", str(folder.parent), "--name", folder.name


def start(folder, flags=FLAGS):
    command = [sys.executable, str(SWEEP), *shlex.split(flags), *where(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process):
    """(exit status, standard output, standard error)."""
    try:
        output, errors = process.communicate(timeout=900)
    finally:
        process.kill()
    assert "Traceback" not in errors, errors
    return process.returncode, output, errors


def sweep(folder, flags=FLAGS):
    return end(start(folder, flags))


def wait_for(condition, process):
    deadline = time.monotonic() + 900
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def checkpoints(job):
    with contextlib.suppress(FileNotFoundError):
        return [path for path in (job / "checkpoints").iterdir() if path.name.isdigit()]
    return []


def attempt(job):
    """What a job's process says of itself, as long as it works on it."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((job / "attempt.json").read_text())
    return None


def in_the_middle(folder):
    """A job that is being worked on and can go on from a checkpoint, and what its process says."""
    for name in JOBS:
        job = folder / name
        if checkpoints(job) and (found := attempt(job)) and not (job / "finished.json").exists():
            return job, found
    return None


def process_status(pid):
    """State and parent of a process, from /proc; a state of "" where there is none."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except FileNotFoundError:
        return "", 0
    return state, int(parent)


def wait_for_the_end_of(*pids):
    deadline = time.monotonic() + 120
    while any(process_status(pid)[0] not in ("", "Z") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def tables(job):
    return [
        [{key: value for key, value in row.items() if key not in TIMING} for row in read_csv(job / name)]
        for name in ("metrics.csv", "eval.csv")
    ]


def last_checkpoint(job):
    found = Checkpoints(job / "checkpoints", keep=2)
    arrays, _ = found.restore(found.steps()[-1])
    found.close()
    return arrays


def assert_same_jobs(folder, other):
    for name in JOBS:
        np.testing.assert_equal(tables(folder / name), tables(other / name))
        arrays, expected = last_checkpoint(folder / name), last_checkpoint(other / name)
        assert arrays.keys() == expected.keys()
        for key in arrays:
            np.testing.assert_array_equal(arrays[key], expected[key], err_msg=key)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed sweep."""
    folder = tmp_path_factory.mktemp("sweeps") / "whole"
    status, output, errors = sweep(folder)
    assert status == 0, output + errors
    return folder, output


def _written(folder):
    """When each file was written, but for the lock, which every driver takes."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "sweep.lock"}


@pytest.mark.slow
def test_a_sweep_leaves_ordinary_runs_and_finished_jobs_are_not_repeated(whole):
    folder, output = whole
    assert "2 of 2 jobs to do" in output and f"2 of 2 jobs are finished in {folder}" in output
    assert [job["name"] for job in json.loads((folder / "sweep.json").read_text())["jobs"]] == list(JOBS)
    for name in JOBS:
        job = folder / name
        assert {"config.json", "metrics.csv", "eval.csv", "learning_curve.png", "policy"} <= {
            p.name for p in job.iterdir()
        }
        last = [row for row in read_csv(job / "eval.csv") if row["step"] == STEPS]
        assert [(row["seed"], row["learning_rate"]) for row in last] == [(0, 1e-3), (1, 1e-3), (0, 3e-4), (1, 3e-4)]
        assert json.loads((job / "finished.json").read_text()) == {"step": STEPS} and attempt(job) is None
    before = _written(folder)
    status, output, _ = sweep(folder)
    assert status == 0 and "2 of 2 jobs are finished" in output and "running" not in output
    assert _written(folder) == before


@pytest.mark.slow
def test_a_job_is_the_run_that_run_py_gives(whole, tmp_path):
    hyper = " ".join(f"--{part.replace('=', ' ').replace('x', ' ')}" for part in HYPER.split())
    flags = f"--env Pendulum {SETTINGS} {hyper} --batch-size 24 --variants learning-rate 1e-3 3e-4"
    command = [sys.executable, str(RUN), *shlex.split(flags), "--output-dir", str(tmp_path), "--name", "run"]
    one_core = os.environ | {"PJRT_NPROC": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=one_core, check=True, capture_output=True, timeout=300)
    np.testing.assert_equal(tables(tmp_path / "Pendulum-v1" / "sac" / "run"), tables(whole[0] / JOBS[1]))


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on_to_the_same_numbers(whole, tmp_path):
    folder = tmp_path / "stopped"
    process = start(folder)
    wait_for(lambda: in_the_middle(folder), process)
    process.send_signal(signal.SIGINT)
    status, output, _ = end(process)
    assert status == 130 and "Stopped. The same command goes on" in output and "stopped" in output
    assert not all((folder / name / "finished.json").exists() for name in JOBS)
    assert not any(attempt(folder / name) for name in JOBS)
    assert any(0 < int(path.name) < STEPS for name in JOBS for path in checkpoints(folder / name))
    status, output, errors = sweep(folder)
    assert status == 0, output + errors
    assert_same_jobs(folder, whole[0])


@pytest.mark.slow
@needs_proc
def test_kill_9_of_a_job_and_of_the_sweep_loses_nothing(whole, tmp_path):
    """The job's process is killed and tried again; then the sweep itself is killed, its jobs end with it."""
    folder = tmp_path / "killed"
    process = start(folder)
    job, found = wait_for(lambda: in_the_middle(folder), process)
    os.kill(found["pid"], signal.SIGKILL)
    wait_for(lambda: (attempt(job) or {}).get("token", "").endswith("/3"), process)
    pids = [found["pid"] for name in JOBS if (found := attempt(folder / name))]
    process.kill()
    output = process.communicate()[0]
    assert (
        f"{job.relative_to(folder)}: retrying: its process ended unexpectedly (killed by SIGKILL); retry 1 of 2"
        in output
    )
    wait_for_the_end_of(*pids)
    assert not all((folder / name / "finished.json").exists() for name in JOBS)
    status, output, errors = sweep(folder)
    assert status == 0, output + errors
    assert_same_jobs(folder, whole[0])


@pytest.mark.slow
def test_a_failed_job_is_named_and_the_others_go_on(tmp_path):
    flags = (
        "--agents sac --envs Pendulum --total-steps 20 --eval-episodes 1 --device cpu "
        "--set hidden-sizes=8 replay-size=100 start-steps=30 target-entropy=none,5"
    )
    # 5 nats are too much for one action: known only where the environment is.
    status, output, errors = sweep(tmp_path / "failing", f"{flags} --max-variants-per-job 1")
    good, bad = (f"Pendulum-v1/sac/target_entropy={value},seed0" for value in ("none", "5"))
    assert status == 1 and "1 of 2 jobs are finished" in output
    assert (
        errors.startswith(f"error: {bad}: --target-entropy must be less than 0.693147 nats") and errors.count("\n") == 1
    )
    assert f"{good}: finished, step 20/20" in output and f"{bad}: failed: --target-entropy" in output
    assert "error: --target-entropy must be less" in (tmp_path / "failing" / bad / "log.txt").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--set lerning-rate=1,2", "Did you mean 'learning_rate'"),
        ("--set learning-rate", "--set expects NAME=VALUE"),
        ("--set discount=0.9 discount=0.8", "--set names discount twice"),
        ("--agents sacc", "Did you mean 'sac'"),
        ("--preset fasst", "Did you mean 'fast'"),
        ("--jobs 0 --device cpu", "--jobs must be at least 1"),
        ("--retries -1", "--retries must be at least 0"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path, capfd, main, flags, words):
    status = main([*shlex.split(f"--envs Pendulum {flags}"), *where(tmp_path / "wrong")])
    output, errors = capfd.readouterr()
    assert status == 1 and output == "" and words in errors
    assert errors.startswith("error: ") and errors.count("\n") == 1


def test_a_dry_run_lists_the_jobs_and_writes_nothing(tmp_path, capfd, main):
    status = main([*shlex.split(f"{FLAGS} --preset fast --dry-run"), *where(tmp_path / "dry")])
    output = capfd.readouterr().out
    assert status == 0 and not (tmp_path / "dry").exists()
    assert output.splitlines()[1:] == [f"  {name}: 2 variants x 2 seeds, to do" for name in JOBS]


# In a process of its own: Ray starts a node's processes by a fork, which does not go with the threads of JAX.
CLUSTER = """
from ray.cluster_utils import Cluster

nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
doomed = nodes.add_node(num_cpus=1)
print("cluster", nodes.address, doomed.node_id, flush=True)
input()
nodes.remove_node(doomed, allow_graceful=False)
print("removed", flush=True)
input()
nodes.shutdown()
"""


@pytest.fixture
def cluster():
    """A Ray cluster of two nodes on this machine, with room for one job on each: (address, second node, remove it)."""
    pytest.importorskip("ray", reason="needs the sweep extra")
    nodes = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def line_with(word):
        return next(line for line in nodes.stdout if line.startswith(word)).split()

    def remove():
        nodes.stdin.write("\n")
        nodes.stdin.flush()
        line_with("removed")

    try:
        yield *line_with("cluster")[1:], remove
    finally:
        nodes.communicate("\n\n", timeout=120)


@pytest.mark.slow
@needs_proc
def test_a_ray_cluster_that_loses_a_worker_and_a_node_ends_with_the_results_of_an_undisturbed_sweep(
    whole, tmp_path, cluster
):
    address, doomed, remove = cluster
    folder = tmp_path / "ray"
    process = start(folder, f"{FLAGS} --ray-address {address}")

    def on_the_doomed_node(doomed=doomed, inverted=False):
        found = [(folder / name, attempt(folder / name)) for name in JOBS]
        there = [
            (job, mark) for job, mark in found if mark and (mark["node"] == doomed) != inverted and checkpoints(job)
        ]
        return there[0] if there else None

    killed, mark = wait_for(lambda: on_the_doomed_node(inverted=True), process)
    os.kill(process_status(mark["pid"])[1], signal.SIGKILL)  # the worker, as the system does for want of memory
    wait_for_the_end_of(mark["pid"])
    lost, mark = wait_for(on_the_doomed_node, process)
    _, worker = process_status(mark["pid"])
    os.kill(mark["pid"], signal.SIGSTOP)  # or the job might be finished before its node is gone
    assert not (lost / "finished.json").exists()
    remove()
    wait_for_the_end_of(worker)
    os.kill(mark["pid"], signal.SIGCONT)
    wait_for_the_end_of(mark["pid"])  # of itself: its node is lost, and so is its job
    status, output, errors = end(process)
    assert status == 0, output + errors
    assert "a Ray cluster of 2 node(s)" in output and f"2 of 2 jobs are finished in {folder}" in output
    for job in (killed, lost):
        assert f"{job.relative_to(folder)}: retrying: its node or worker was lost" in output
        assert (job / "log.txt").read_text().count(f"sac on Pendulum-v1: {STEPS:,} steps") >= 2
    assert_same_jobs(folder, whole[0])
