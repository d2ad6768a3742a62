"""Runs that a study needs: trained once, gone on with where they were interrupted, never taken for finished before."""

import pytest

from benchmarks.lab import runs
from benchmarks.lab.measure import BenchmarkError


class Command:
    """Stands for experiments/run.py: writes what a run writes, and is interrupted at its first call."""

    def __init__(self):
        self.calls = []

    def __call__(self, command, folder):
        self.calls.append(command[2:])
        run = folder / "runs" / "Pendulum-v1" / "sac" / "teacher"
        (run / "checkpoints" / "100").mkdir(parents=True, exist_ok=True)
        (run / "policy").mkdir(exist_ok=True)
        for name in ("config.json", "policy/policy.json"):  # an evaluation on the way exports a policy
            (run / name).write_text("{}")
        return self

    def wait(self, teller):
        if len(self.calls) == 1:
            raise BenchmarkError("interrupted")


def test_an_interrupted_run_is_gone_on_with_and_a_finished_one_is_kept(tmp_path, monkeypatch):
    """A teacher that was stopped after its first evaluation was taken for a trained one."""
    command = Command()
    monkeypatch.setattr(runs, "Process", command)
    folder = tmp_path / "teacher" / "runs" / "Pendulum-v1" / "sac" / "teacher"
    with pytest.raises(BenchmarkError, match="interrupted"):
        runs.trained_run(tmp_path, "teacher", ["--env", "Pendulum"])
    for _ in range(2):
        assert runs.trained_run(tmp_path, "teacher", ["--env", "Pendulum"]) == folder
    where = ["--output-dir", str(tmp_path / "teacher" / "runs")]
    expected = ["--env", "Pendulum", "--name", "teacher", "--allow-unused", *where]
    assert command.calls == [expected, ["--resume", str(folder)]]
