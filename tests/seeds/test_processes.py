"""One run by two processes: the numbers of one process, one death that ends both, one error that both report."""

import os
import shlex
import socket
from pathlib import Path

import numpy as np
import pytest
from run_processes import assert_same, finish, host_devices, kill_at, start_python, start_run

from maxent_rl.errors import InvalidSettingError
from maxent_rl.runs.records import read_csv
from maxent_rl.seeds.processes import Processes, divide, join, start_processes

TRAIN = """
import sys
import jax
from maxent_rl.errors import MaxentRLError
from maxent_rl.agents import SAC
from maxent_rl.seeds.processes import Processes, leave, start_processes
coordinator, count, index, out, what = sys.argv[1:]
if int(count) > 1:
    start_processes(coordinator, int(count), int(index))
from environments import HostPoint, Point
from maxent_rl import train
faulty = what == "nan" and index == "1"
env = Point() if what == "device" else (lambda: HostPoint(fault_at=7 if faulty else 0))
agent = SAC(hidden_sizes=(16,), batch_size=16, replay_size=200, start_steps=20)
settings = dict(num_seeds=4, total_steps=120, log_every=40, eval_every=60, eval_episodes=2, checkpoint_every=60)
try:
    result = train(agent, env, output_dir=out, name="run", progress=False, variants={"discount": (0.9, 0.99)}, **settings)
    policies = [result.policy(seed, variant) for variant in range(2) for seed in range(4)]
    assert len({policy([0.3, 0.3]).tobytes() for policy in policies}) == 8
except MaxentRLError as error:
    print("error:", type(error).__name__, error)
    leave(1)
"""


def free_address():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def start_two(*flags):
    address = free_address()
    together = ("--coordinator", address, "--num-processes", "2", "--process-id")
    return [start_run(*flags, *together, str(index), **host_devices(1)) for index in range(2)]


def train_with(count, out, what):
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    variables, address = host_devices(2 // count) | {"PYTHONPATH": path}, free_address()
    return [start_python("-c", TRAIN, address, str(count), str(i), str(out), what, **variables) for i in range(count)]


def only_run(folder):
    (found,) = folder.glob("*/sac/run")
    return found


@pytest.mark.slow
def test_two_processes_killed_and_resumed_equal_one_process_with_two_devices(tmp_path):
    flags = "--env Pendulum-v1 --num-seeds 2 --hidden-sizes 32 32 --batch-size 32 --start-steps 200 --replay-size 1500"
    flags += " --total-steps 2500 --log-every 100 --checkpoint-every 300 --eval-every 1000 --eval-episodes 1"
    common = [*shlex.split(flags), "--output-dir", str(tmp_path)]
    whole, killed = (tmp_path / "Pendulum-v1" / "sac" / name for name in ("whole", "killed"))
    finish(start_run(*common, "--name", "whole", **host_devices(2)))

    first, second = start_two(*common, "--name", "killed")
    kill_at(second, killed, step=800, delay=0.02)
    output, _ = first.communicate(timeout=200)
    assert first.returncode == 1, output
    told = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and "Traceback" not in output, output
    assert f"Process 1 of this run (process {second.pid} on " in told[0] and "has ended without a word" in told[0]
    assert f"start the processes again and go on with --resume {killed}." in told[0]
    assert int(read_csv(killed / "metrics.csv")[-1]["step"]) < 2500
    older = min(int(path.name) for path in (killed / "checkpoints").iterdir() if path.name.isdigit())
    for process in start_two("--resume", str(killed), "--from-step", str(older), "--total-steps", "2000"):
        finish(process)
    # The checkpoint belongs to the run, not to the number of processes that wrote it.
    finish(start_run("--resume", str(killed), "--total-steps", "2500", **host_devices(2)))
    assert_same(killed, whole)


@pytest.mark.slow
def test_device_environments_and_variants_of_a_library_user(tmp_path):
    for count in (1, 2):
        for process in train_with(count, tmp_path / str(count), "device"):
            finish(process)
    one, two = (only_run(tmp_path / str(count)) for count in (1, 2))
    assert len(read_csv(two / "metrics.csv")) == 3 * 8 and len(read_csv(two / "eval.csv")) == 2 * 8
    assert_same(two, one)


@pytest.mark.slow
def test_nan_in_one_process_stops_both_with_the_same_sentence(tmp_path):
    outputs = []
    for process in train_with(2, tmp_path, "nan"):
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 1, output
        outputs.append(output)
    for output in outputs:
        assert "error: NonFiniteError" in output and "gave nan as the reward in step 7" in output, output
    assert "Process 1: " in outputs[0] and "Process 1: " not in outputs[1]


@pytest.mark.slow
def test_wrong_numbers_of_seeds_and_folders_that_cannot_be_made_are_sentences_of_both(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cases = {"share 3 seed(s)": ("3", "folder"), "Cannot make the folder": ("2", "file")}
    for sentence, (seeds, folder) in cases.items():
        flags = "--num-seeds", seeds, "--output-dir", str(tmp_path / folder)
        for process in start_two("--env", "Pendulum-v1", *flags):
            output, _ = process.communicate(timeout=200)
            assert process.returncode == 1 and "Traceback" not in output, output
            assert sentence in output.splitlines()[-1], output


def processes(index, count):
    found = object.__new__(Processes)
    found.index, found.count = index, count
    return found


def test_shares_are_parts_of_the_whole():
    members = list(range(6))
    assert [entry for index in range(3) for entry in processes(index, 3).share(members)] == members
    with pytest.raises(InvalidSettingError, match=r"4 processes cannot share 6 seed\(s\)"):
        processes(0, 4).share(members)
    arrays = {"a": np.arange(8).reshape(4, 2), "step": np.int32(7) * np.ones((), np.int32)}
    halves = [processes(index, 2).share_arrays(arrays) for index in range(2)]
    np.testing.assert_array_equal(np.concatenate([half["a"] for half in halves]), arrays["a"])
    assert [int(half["step"]) for half in halves] == [7, 7]


def test_what_is_joined_divides_again():
    trees = [
        {"envs": [{"a": 1}, {"a": 2}], "elapsed": np.array([3, 4])},
        {"envs": [{"a": 5}, {}], "elapsed": np.array([6, 7])},
    ]
    joined = join(trees)
    assert joined["envs"] == [{"a": 1}, {"a": 2}, {"a": 5}, {}]
    for index in range(2):
        np.testing.assert_equal(divide(joined, processes(index, 2)), trees[index])
    assert divide(None, processes(0, 2)) is None


def test_a_process_alone_says_everything_itself():
    alone = Processes()
    value = {"anything": object()}
    assert (alone.index, alone.count, alone.first) == (0, 1, True)
    assert alone.gather(value) == [value]
    with pytest.raises(InvalidSettingError, match="wrong"), alone.together():
        raise InvalidSettingError("wrong")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("somewhere", 2, 0), "HOST:PORT or auto"),
        (("host:123", None, None), "needs --num-processes"),
        (("host:123", 2, 2), "from 0 to 1"),
    ],
)
def test_wrong_addresses_and_numbers_are_refused(arguments, match):
    with pytest.raises(InvalidSettingError, match=match):
        start_processes(*arguments)


@pytest.mark.slow
def test_auto_without_a_cluster_is_a_sentence(tmp_path):
    arguments = ("--env", "Pendulum-v1", "--coordinator", "auto", "--output-dir", str(tmp_path))
    output, _ = start_run(*arguments, **host_devices(1)).communicate(timeout=100)
    assert output.startswith("error: This process could not join the others"), output
