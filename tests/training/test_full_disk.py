"""A disk that is full and then freed: one sentence that says what is safe, and then the same numbers."""

import subprocess

import pytest
from run_processes import assert_same, run_here, start_run
from support.disks import small_disk

FLAGS = (
    "--env Pendulum --total-steps 3000 --checkpoint-every 200 --eval-every 0 --eval-episodes 1 --start-steps 2900 "
    "--batch-size 16 --hidden-sizes 16 16"
)


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", kilobytes=300) as folder:
        yield folder


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_goes_on_once_there_is_space(disk, tmp_path):
    common = FLAGS.split()
    process = start_run(*common, "--output-dir", str(disk), "--name", "full")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "Traceback" not in output
    (told,) = [line for line in output.splitlines() if "error" in line.lower()]
    folder = disk / "Pendulum-v1" / "sac" / "full"
    newest = max(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())
    assert "No space left on device" in told
    assert f"The checkpoint of step {newest} is safe: once there is space, go on with --resume {folder}." in told

    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    run_here("--resume", str(folder))
    run_here(*common, "--output-dir", str(tmp_path), "--name", "whole")
    assert_same(folder, tmp_path / "Pendulum-v1" / "sac" / "whole")
