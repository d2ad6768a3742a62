"""Printed commands work as they stand."""

from __future__ import annotations

import sys
from pathlib import Path

from maxent_rl.runs.next_command import next_command


def test_the_python_of_an_environment_that_is_not_activated_is_named_by_its_path(tmp_path, monkeypatch):
    folder = tmp_path / "my project"
    python, script = folder / ".venv" / "bin" / "python", folder / "experiments" / "evaluate.py"
    python.parent.mkdir(parents=True)
    script.parent.mkdir()
    python.symlink_to(sys.executable)  # as environments have it: of one file with the system's
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PATH", str(Path("/usr/bin")))
    monkeypatch.chdir(folder)
    assert next_command(script, "runs/a b") == ".venv/bin/python experiments/evaluate.py 'runs/a b'"
    monkeypatch.chdir(tmp_path.parent)
    assert (
        next_command(script, 3) == f"'{python.relative_to(tmp_path.parent)}' '{script.relative_to(tmp_path.parent)}' 3"
    )
    monkeypatch.chdir(folder / "experiments")
    assert next_command(script) == f"'{python}' evaluate.py"


def test_an_activated_one_is_python(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert next_command("run.py", "--seed", 1) == "python run.py --seed 1"
