"""The tables of a run: exact, readable at any moment, and the same after a resume as without one."""

from __future__ import annotations

import builtins
import importlib.util
import math
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxent_rl.errors import CheckpointError, InvalidSettingError, MissingDependencyError, StorageError
from maxent_rl.runs import records
from maxent_rl.runs.records import Recorder, read_csv


def open_recorder(folder: Path, **settings: object) -> Recorder:
    return Recorder(folder, config={}, **{"tensorboard": False, **settings})


def test_a_table_has_one_row_per_step_and_seed(tmp_path):
    with open_recorder(tmp_path) as record:
        record.metrics(1000, [{"seed": 3, "critic/loss": 0.5, "updates": 7}, {"seed": 4, "critic/loss": 1e-9}])
        record.evaluation(1000, [{"seed": 3, "return_mean": -1.5, "returns": "-1.0 -2.0"}])
        assert (tmp_path / "metrics.csv").read_text() == (
            "step,seed,critic/loss,updates\n1000,3,0.5,7\n1000,4,1e-09,\n"
        )
    assert (tmp_path / "eval.csv").read_text() == "step,seed,return_mean,returns\n1000,3,-1.5,-1.0 -2.0\n"
    assert read_csv(tmp_path / "eval.csv") == [{"step": 1000, "seed": 3, "return_mean": -1.5, "returns": "-1.0 -2.0"}]


@given(st.floats(allow_nan=False) | st.integers(-(2**53), 2**53) | st.floats(width=32).map(np.float32))
def test_numbers_read_back_as_what_they_were(value):
    text = records._cell(value)
    read = records._value(text)
    assert read == value or (math.isnan(read) and math.isnan(value))


@pytest.mark.parametrize("missing", [math.nan, np.float32("nan"), None])
def test_nan_and_missing_values_are_empty_cells(tmp_path, missing):
    record = open_recorder(tmp_path)
    record.metrics(1, [{"seed": 0, "a": missing, "b": 2.0}])
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1] == "1,0,,2.0"
    assert math.isnan(read_csv(tmp_path / "metrics.csv")[0]["a"])


def test_a_metric_that_comes_late_gets_a_column(tmp_path):
    record = open_recorder(tmp_path)
    record.metrics(1, [{"seed": 0, "a": 1.0}])
    record.metrics(2, [{"seed": 0, "b": 3.0, "a": 2.0}])
    assert (tmp_path / "metrics.csv").read_text() == "step,seed,a,b\n1,0,1.0,\n2,0,2.0,3.0\n"


def test_text_may_hold_commas_and_quotes_but_stays_on_its_line(tmp_path):
    record = open_recorder(tmp_path)
    record.evaluation(1, [{"seed": 0, "note": 'a, "b"\nc'}])
    assert len((tmp_path / "eval.csv").read_text().splitlines()) == 2
    assert read_csv(tmp_path / "eval.csv")[0]["note"] == 'a, "b" c'


def test_records_are_complete_after_every_call_without_closing(tmp_path):
    record = open_recorder(tmp_path)
    for step in (1, 2, 3):
        record.metrics(step, [{"seed": 0, "a": float(step)}, {"seed": 1, "a": 0.0}])
        assert len(read_csv(tmp_path / "metrics.csv")) == 2 * step


def test_a_half_written_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes("step,seed,a\n1,0,1.5\n2,0,2.\u00e9".encode()[:-1])
    assert read_csv(path) == [{"step": 1, "seed": 0, "a": 1.5}]
    path.write_text("step,se")
    assert read_csv(path) == []


def test_reading_a_run_without_records_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="recorded nothing"):
        read_csv(tmp_path / "eval.csv")


def record_steps(record: Recorder, steps: range) -> None:
    for step in steps:
        late = {"late": 1 / step} if step > 4 else {}
        record.metrics(step, [{"seed": seed, "a": step / 7 + seed} | late for seed in (0, 1)])
        if step % 2 == 0:
            record.evaluation(step, [{"seed": seed, "return_mean": step / 3, "returns": "1.0 2.0"} for seed in (0, 1)])


@pytest.mark.parametrize("torn", ["", "7,0,0.3", "7,", "\n"])
def test_a_resumed_run_leaves_the_same_files_as_one_never_killed(tmp_path, torn):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    record_steps(open_recorder(tmp_path / "whole"), range(1, 9))
    record_steps(open_recorder(tmp_path / "killed"), range(1, 7))
    with (tmp_path / "killed" / "metrics.csv").open("a") as file:
        file.write(torn)
    record_steps(open_recorder(tmp_path / "killed", resume_step=4), range(5, 9))
    for file in ("metrics.csv", "eval.csv"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert not list((tmp_path / "killed").glob("*.partial"))


@pytest.mark.parametrize("content", [None, "", "step,se", "step,seed,a\n", "step,seed,a\n9,0,1.0\n"])
def test_resuming_before_anything_was_recorded(tmp_path, content):
    path = tmp_path / "metrics.csv"
    if content is not None:
        path.write_text(content)
    open_recorder(tmp_path, resume_step=4).metrics(5, [{"seed": 0, "a": 2.0}])
    assert path.read_text() == "step,seed,a\n5,0,2.0\n"


def test_a_folder_with_records_is_refused(tmp_path):
    open_recorder(tmp_path).evaluation(1, [{"seed": 0, "return_mean": 1.0}])
    with pytest.raises(StorageError, match=r"eval\.csv already holds the records of a run"):
        open_recorder(tmp_path)


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ("name,value\nx,1\n", []),
        ("\0" * 60, []),
        ("step,seed,a\n1,0,1.0\nbroken,0,1.0\n2,0\n3,0,\0\0\n4,0,7.0\n5,0,1.0\n", ["1,0,1.0", "4,0,7.0"]),
    ],
)
def test_what_is_whole_of_a_damaged_table_is_kept_and_the_rest_said(tmp_path, content, kept):
    (tmp_path / "metrics.csv").write_text(content)
    recorder = open_recorder(tmp_path, resume_step=4, expected_rows={"metrics.csv": 4})
    first, second = recorder.remarks
    assert "was damaged: its whole rows are kept" in first and "metrics.csv.damaged" in first
    assert f"has {len(kept)} of the 4 rows" in second
    recorder.metrics(5, [{"seed": 0, "a": 2.0}])
    assert (tmp_path / "metrics.csv").read_text().splitlines() == ["step,seed,a", *kept, "5,0,2.0"]
    assert (tmp_path / "metrics.csv.damaged").read_text() == content


def test_rows_that_are_missing_are_said_and_whole_tables_are_not(tmp_path):
    recorder = open_recorder(tmp_path)
    for step in (1, 2, 3):
        recorder.metrics(step, [{"seed": 0, "a": 1.0}])
    counts = recorder.row_counts()
    assert counts == {"metrics.csv": 3, "eval.csv": 0}
    assert open_recorder(tmp_path, resume_step=3, expected_rows=counts).remarks == []
    path = tmp_path / "metrics.csv"
    for content, left in (("step,seed,a\n1,0,1.0\n2,0,1.", 1), ("", 0), (None, 0)):
        path.unlink() if content is None else path.write_text(content)
        (told,) = open_recorder(tmp_path, resume_step=3, expected_rows=counts).remarks
        assert f"has {left} of the 3 rows that were recorded before" in told


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    record = open_recorder(tmp_path)
    record.metrics(1, [{"seed": 0, "a": 1.0}])

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(StorageError, match=r"^Cannot write .*metrics\.csv: No space left on device\.$"):
            record.metrics(2, [{"seed": 0, "a": 1.0}])
        patch.setattr(os, "replace", full)
        with pytest.raises(StorageError, match="No space left"):
            record.metrics(2, [{"seed": 0, "new": 1.0}])


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        open_recorder(tmp_path / "gone").metrics(1, [{"seed": 0}])


def read_events(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """Steps and values of all event files, as TensorBoard reads them: a session start drops later steps before it."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found: list[tuple[int, dict[str, float]]] = []
    for path in sorted(folder.iterdir(), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            if event.session_log.status == SessionLog.START:
                found = [item for item in found if item[0] < event.step]
            if event.HasField("summary"):
                found.append((event.step, {value.tag: value.simple_value for value in event.summary.value}))
    return found


def test_tensorboard_has_one_run_per_seed_and_is_purged_on_resume(tmp_path):
    pytest.importorskip("tensorboardX")
    rows = [{"seed": 3, "critic/loss": 0.5, "updates": 7}, {"seed": 4, "critic/loss": 1.5, "updates": 7}]
    record = open_recorder(tmp_path, tensorboard=True)  # never closed: killed
    for step in (1, 2, 3):
        record.metrics(step, rows)
    with open_recorder(tmp_path, tensorboard=True, resume_step=2) as record:
        record.metrics(3, rows)
        record.evaluation(3, [{"seed": 3, "return_mean": 2.0, "returns": "1.0 3.0"}])
    expected = {"critic/loss": 0.5, "run/updates": 7.0}
    assert read_events(tmp_path / "tensorboard" / "seed_3") == [
        *((step, expected) for step in (1, 2, 3)),
        (3, {"eval/return_mean": 2.0}),
    ]
    assert [step for step, _ in read_events(tmp_path / "tensorboard" / "seed_4")] == [1, 2, 3]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_tensorboard_on_a_full_disk_raises_and_does_not_hang(tmp_path):
    pytest.importorskip("tensorboardX")
    with pytest.raises(StorageError, match="TensorBoard"), open_recorder(tmp_path, tensorboard=True) as record:
        record.metrics(1, [{"seed": 0, "a": 1.0}])
        writer = record._tensorboard._writers["seed_0"]._py_recordio_writer
        writer._writer = open("/dev/full", "wb")  # noqa: SIM115
        for step in range(2, 50):
            record.metrics(step, [{"seed": 0, "a": 1.0}])


def hide_module(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    original = builtins.__import__

    def refuse(module: str, *arguments: object, **options: object) -> object:
        if module.partition(".")[0] == name:
            raise ImportError(f"No module named {name!r}")
        return original(module, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_without_tensorboardx_there_are_no_events(tmp_path, monkeypatch):
    hide_module(monkeypatch, "tensorboardX")
    open_recorder(tmp_path, tensorboard=True).metrics(1, [{"seed": 0, "a": 1.0}])
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_wandb_must_be_installed_when_it_is_asked_for(tmp_path, monkeypatch):
    hide_module(monkeypatch, "wandb")
    with pytest.raises(MissingDependencyError, match=r"maxent_rl\[wandb\]"):
        open_recorder(tmp_path, wandb_project="study")


class FakeWandb(types.ModuleType):
    """Remembers what it was told."""

    class Error(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = importlib.util.spec_from_loader("wandb", loader=None)
        self.starts: list[dict[str, object]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished: list[int] = []
        self.refuse = False

    def init(self, **settings: object) -> FakeWandb:
        if self.refuse:
            raise self.Error("api_key not configured\nmore")
        self.starts.append(settings)
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))

    def finish(self, exit_code: int) -> None:
        self.finished.append(exit_code)


def test_wandb_gets_every_seed_and_a_resumed_run_goes_on_as_the_same(tmp_path, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with open_recorder(tmp_path, wandb_project="study") as record:
        record.metrics(5, [{"seed": 0, "a/b": 1.0}, {"seed": 1, "a/b": 2.0}])
    with pytest.raises(ZeroDivisionError), open_recorder(tmp_path, wandb_project="study", resume_step=5):
        raise ZeroDivisionError
    assert wandb.logged == [(5, {"a/b/seed_0": 1.0, "a/b/seed_1": 2.0})]
    assert wandb.finished == [0, 1]
    first, second = wandb.starts
    assert first["id"] == second["id"]
    assert first["project"] == "study"


def test_wandb_that_refuses_is_one_sentence(tmp_path, monkeypatch):
    wandb = FakeWandb()
    wandb.refuse = True
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with pytest.raises(InvalidSettingError, match=r"'study': api_key not configured\. Log in"):
        open_recorder(tmp_path, wandb_project="study")
