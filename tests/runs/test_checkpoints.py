"""Checkpoints on disk: which stay, and what is said of damaged ones."""

import contextlib
import math
import os
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from support.disks import small_disk

from maxent_rl.errors import CheckpointError, StorageError
from maxent_rl.runs.checkpoints import Checkpoints
from maxent_rl.seeds.processes import Processes

CAPACITY = 10


def save(checkpoints, step, best=-math.inf, rows=None, improved=False):
    rows = np.full((1, 10, 3), step, np.float32) if rows is None else rows
    checkpoints.save(step, {"a": np.arange(5.0)}, {"best": best}, rows, CAPACITY, best if improved else None)
    checkpoints.wait()


@pytest.fixture
def three(tmp_path):
    """Checkpoints of the steps 10, 20 and 30, of ten rows each."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=3)
    for step in (10, 20, 30):
        save(checkpoints, step)
    yield checkpoints
    checkpoints.close()


def segment(checkpoints, step):
    return checkpoints._replay / f"{step - 10:012d}-{step:012d}.npy"


@pytest.mark.slow
def test_after_a_kill_the_latest_and_the_best_stay_and_nothing_else(tmp_path):
    folder = tmp_path / "checkpoints"
    for process in range(3):  # each is left as a kill leaves it: nothing is closed
        checkpoints = Checkpoints(folder, keep=2)
        for step in (10, 20, 30, 40):
            number = 40 * process + step
            save(checkpoints, number, best=-math.inf if number < 20 else 5.0, improved=number == 20)
        (folder / f"{number + 5}.orbax-checkpoint-tmp").mkdir()
        (folder / "replay" / "5.partial").write_bytes(b"half")
    reopened = Checkpoints(folder, keep=2)
    save(reopened, 130, best=5.0)
    save(reopened, 140, best=5.0)
    reopened.close()
    assert sorted(path.name for path in folder.iterdir()) == ["130", "140", "20", "replay"]
    assert not list(folder.glob("replay/*.partial"))


def test_without_evaluations_only_the_latest_stay(tmp_path):
    for process in range(2):
        checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
        for step in (10, 20, 30):
            save(checkpoints, 30 * process + step)
    assert checkpoints.steps() == [50, 60]
    checkpoints.close()


def test_rows_and_arrays_come_back_as_they_were(three):
    arrays, meta = three.restore(30)
    np.testing.assert_array_equal(arrays["a"], np.arange(5.0))
    assert meta == {"best": -math.inf}
    rows = three.restore_rows(30, jnp.zeros((1, CAPACITY, 3)))
    np.testing.assert_array_equal(rows, np.full((1, CAPACITY, 3), 30.0))


def zeroed(content):
    return bytes(len(content))


def flipped(content):
    return content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]


def cut(content):
    return content[: len(content) // 2]


def enormous(content):
    return content.replace(b"(1, 10, 3)", b"(9, 10**9)").replace(b"10**9", b"99999")


def without_end(content):
    return content[:-5]


DAMAGES = {
    "zeroed": (zeroed, "damaged"),
    "flipped": (flipped, "checksum is wrong"),
    "cut": (cut, "cut short"),
    "enormous": (enormous, "cut short"),
    "without its end": (without_end, "checksum is wrong"),
    "empty": (lambda content: b"", "damaged"),
    "of text": (lambda content: b"hello\n" * 20, "damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_segment_is_named_and_the_older_checkpoint_is_whole(three, damage):
    damaged, words = DAMAGES[damage]
    path = segment(three, 30)
    path.write_bytes(damaged(path.read_bytes()))
    with pytest.raises(CheckpointError, match=rf"{path.name} is damaged \(.*{words.replace('damaged', '')}") as caught:
        three.restore_rows(30, jnp.zeros((1, CAPACITY, 3)))
    assert "pickle" not in str(caught.value)
    with pytest.raises(CheckpointError, match="damaged"):
        three.member_rows(30, CAPACITY, 3, 0)
    assert three.newest_whole(CAPACITY) == 20


def test_a_checkpoint_whose_rows_hold_nan_is_not_whole(three):
    rows = np.full((1, 10, 3), np.nan, np.float32)
    save(three, 40, rows=rows)
    assert three.newest_whole(CAPACITY) == 30
    assert three.newest_whole(CAPACITY, before=30) == 20


def test_segments_of_before_there_were_checksums_are_read(three):
    path = segment(three, 30)
    np.save(path, np.ones((1, 10, 3), np.float32))
    rows = three.restore_rows(30, jnp.zeros((1, CAPACITY, 3)))
    np.testing.assert_array_equal(rows, np.ones((1, CAPACITY, 3)))


def test_values_that_were_changed_are_damaged(three, tmp_path):
    path = tmp_path / "checkpoints" / "30" / "meta" / "metadata"
    path.write_text(path.read_text().replace("-Infinity", "7.5"))
    with pytest.raises(CheckpointError, match=r"30 is missing or damaged \(the checksum of meta is wrong"):
        three.restore(30)
    assert three.newest_whole(CAPACITY) == 20


def test_a_checkpoint_with_damaged_metadata_does_not_stand_before_the_others(three, tmp_path):
    for path in tmp_path.glob("checkpoints/20/_CHECKPOINT_METADATA"):
        path.write_text('{"metricz": 3, "performance_metricz": {}, "custom_metadata": {}}')
    reopened = Checkpoints(tmp_path / "checkpoints", keep=3)
    assert reopened.steps() == [10, 20, 30]
    assert reopened.restore(30)[0]["a"].tolist() == reopened.restore(10)[0]["a"].tolist() == [0, 1, 2, 3, 4]
    save(reopened, 40)
    reopened.close()


def test_what_came_after_a_step_is_moved_not_lost(three, tmp_path):
    first = three.forget_after(20)
    assert three.steps() == [10, 20]
    assert sorted(path.name for path in first.iterdir()) == ["30", "replay"]
    assert [path.name for path in (first / "replay").iterdir()] == [segment(three, 30).name]
    save(three, 30)
    assert three.forget_after(20) != first
    assert three.forget_after(20) is None


def test_another_process_sees_later_checkpoints_go_once_the_first_has_moved_all(three, tmp_path):
    class Second(Processes):
        """Waits, as it comes to the end of what both do together, until the first has done it."""

        def __init__(self):
            self.index, self.count, self.waited = 1, 2, 0

        @contextlib.contextmanager
        def together(self):
            yield
            self.waited += 1
            three.forget_after(20)

    processes = Second()
    second = Checkpoints(tmp_path / "checkpoints", keep=3, processes=processes)
    assert second.steps() == [10, 20, 30]
    second.forget_after(20)
    assert processes.waited == 1 and second.steps() == [10, 20]
    second.close()


def test_rows_that_no_checkpoint_has_are_deleted(three):
    orphan = segment(three, 40)
    orphan.write_bytes(segment(three, 30).read_bytes())
    assert three.forget_after(30) is None
    assert not orphan.exists() and segment(three, 30).exists()


@pytest.mark.parametrize("kilobytes", [100, 140, 180, 220])
def test_a_disk_that_fills_up_anywhere_in_a_checkpoint_is_one_error(tmp_path, capfd, caplog, monkeypatch, kilobytes):
    beside = []  # what threads could raise nowhere
    monkeypatch.setattr(sys, "unraisablehook", beside.append)
    arrays = {name: np.random.default_rng(7).normal(size=(16, 16)) for name in map(str, range(60))}  # 120 kB
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        checkpoints = Checkpoints(disk / "checkpoints", keep=2)
        with pytest.raises(StorageError, match="No space left on device"):
            for step in (10, 20, 30):
                checkpoints.save(step, arrays, {}, np.zeros((1, 10, 3), np.float32), CAPACITY, None)
                checkpoints.wait()
        checkpoints.close()
    assert not beside
    assert not [record for record in caplog.records if record.name == "asyncio"]
    assert capfd.readouterr().err == ""


def test_damaged_arrays_are_one_error_and_nothing_is_printed_beside_it(tmp_path, capfd):
    arrays = {f"a{number}": np.random.default_rng(number).normal(size=(40, 50)) for number in range(40)}
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(10, arrays, {"best": 0.0}, np.zeros((1, 0, 3), np.float32), 0, None)
    checkpoints.wait()
    for path in (tmp_path / "checkpoints" / "10" / "arrays").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:100])
    for _ in range(3):
        with pytest.raises(CheckpointError, match="is missing or damaged"):
            checkpoints.restore(10)
    checkpoints.close()
    assert "Traceback" not in capfd.readouterr().err


def test_a_checkpoint_with_a_pipe_in_it_is_not_waited_for(three, tmp_path):
    path = tmp_path / "checkpoints" / "30" / "meta" / "metadata"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="meta/metadata is no file"):
        three.restore(30)
    assert three.newest_whole(CAPACITY) == 20
