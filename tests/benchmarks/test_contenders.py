"""The processes that the benchmarks start, and the work that they give them."""

from __future__ import annotations

import os
import sys

import pytest
import time_to_return
from common import BenchmarkError
from contenders import Finished, Process, Product, Work, run_all


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


def test_ours_logs_at_the_windows_ends_and_does_nothing_else_within():
    flags = Work(start_steps=1000, warmup_steps=500, window_steps=3000).product_flags()
    given = dict(zip(flags[::2], flags[1::2], strict=False))
    assert (given["--log-every"], given["--total-steps"]) == ("1500", "4500")
    assert (given["--eval-every"], given["--checkpoint-every"]) == ("0", "0")


def test_a_window_that_would_need_many_log_lines_is_refused():
    with pytest.raises(BenchmarkError, match="common divisor"):
        Work(start_steps=1000, warmup_steps=1, window_steps=3000).product_flags()


def test_the_moments_of_log_lines_follow_from_the_last_write():
    rows = [{"step": 100.0, "seconds": 7.0, "updates": 0.0}, {"step": 200.0, "seconds": 10.0, "updates": 100.0}]
    product = Product(rows, 1000.0, {}, Finished("", "", 0.0, 0.0, 0))
    assert product.at(100) == (997.0, 0)
    assert product.at(200) == (1000.0, 100)


def test_a_return_is_passed_at_the_first_evaluation_above_it():
    curve = [
        {"step": 5000, "seconds": 10.0, "return_mean": 0.0},
        {"step": 10000, "seconds": 20.0, "return_mean": 2000.0},
        {"step": 15000, "seconds": 30.0, "return_mean": 500.0},
    ]
    assert time_to_return.crossings(curve, (1000.0, 3000.0)) == {
        "seconds_to_1000": 20.0,
        "steps_to_1000": 10000,
        "interpolated_seconds_to_1000": 15.0,
    }


def test_a_curve_that_is_still_being_written_is_read_up_to_its_last_whole_line(tmp_path):
    path = tmp_path / "curve.jsonl"
    assert time_to_return.read_curve(path) == []
    path.write_text('{"step": 1}\n{"st')
    assert time_to_return.read_curve(path) == [{"step": 1}]
