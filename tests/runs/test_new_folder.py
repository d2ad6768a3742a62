"""A run's folder is made late, and a start that fails leaves nothing."""

from __future__ import annotations

import pytest

from maxent_rl.errors import StorageError
from maxent_rl.runs.new_folder import NewFolder, check_new_folder


def test_what_was_made_is_gone_again_and_what_was_there_stays(tmp_path):
    (tmp_path / "runs").mkdir()
    first, second = tmp_path / "runs" / "env" / "sac" / "one", tmp_path / "runs" / "env" / "ppo" / "two"
    one, two = NewFolder(first), NewFolder(second)
    (first / "checkpoints" / "replay").mkdir(parents=True)
    (first / "config.json").write_text("{}")
    one.discard()
    assert not (tmp_path / "runs" / "env" / "sac").exists() and second.is_dir()
    two.discard()
    assert [path.name for path in (tmp_path / "runs").rglob("*")] == [
        "env"
    ]  # made by the first, when the second was there


def test_files_in_a_folder_that_was_there_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    folder = NewFolder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    folder.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_places_that_cannot_become_a_run_are_refused_and_nothing_changes(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    for folder, words in (
        (tmp_path / "file" / "a", "Cannot make the folder .* is a file"),
        (tmp_path / "run", "already holds a run"),
        (tmp_path / ("a" * 300), "Cannot make the folder .*too long"),
    ):
        with pytest.raises(StorageError, match=words):
            check_new_folder(folder)
    check_new_folder(tmp_path / "new" / "run")
    assert len(list(tmp_path.iterdir())) == 2
