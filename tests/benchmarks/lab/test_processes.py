"""The processes that the benchmarks start."""

from __future__ import annotations

import os
import sys

import pytest

from benchmarks.lab.measure import BenchmarkError
from benchmarks.lab.processes import Process, run_all


def python(code, folder, **more):
    return Process([sys.executable, "-c", code], folder, **more)


def test_a_process_tells_what_it_printed_and_how_much_memory_it_took(tmp_path):
    block = 50_000_000
    finished = python(f"import os; x = bytes(range(250)) * {block // 250}; print('done')", tmp_path).wait()
    assert finished.output == "done\n"
    assert finished.peak_memory > block


def test_a_process_that_fails_says_why(tmp_path):
    with pytest.raises(BenchmarkError, match=r"status 3 and said:\nno such thing"):
        python("import sys; print('no such thing'); sys.exit(3)", tmp_path).wait()


def test_a_process_can_be_kept_to_a_core(tmp_path):
    core = min(os.sched_getaffinity(0))
    finished = python("import os; print(os.sched_getaffinity(0))", tmp_path, cores=[core]).wait()
    assert finished.output.strip() == str({core})


def test_if_one_of_several_processes_fails_the_others_are_ended(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    long = python("import time; time.sleep(600)", tmp_path / "b")
    with pytest.raises(BenchmarkError):
        run_all([python("raise SystemExit(1)", tmp_path / "a"), long])
    with pytest.raises(ProcessLookupError):
        os.killpg(long.pid, 0)
