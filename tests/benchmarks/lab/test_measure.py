"""Alternating runs, statistics and results of the benchmarks."""

from __future__ import annotations

import json

import pytest

from benchmarks.lab import measure as lab
from benchmarks.lab.measure import BenchmarkError, Measurement, Options, Ratio


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch):
    monkeypatch.setattr(lab, "busy_share", lambda seconds: 0.0)


def options(tmp_path, repeats=2):
    return Options(repeats=repeats, pause=0.0, output=tmp_path)


def speed(value):
    return Measurement({"steps_per_second": value}, {"jax": "1.0"})


def runs(*triples):
    return [{"contender": name, "repeat": repeat, "values": {"speed": value}} for name, repeat, value in triples]


def test_spread_is_median_smallest_largest_and_count():
    assert lab.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "count": 3}
    assert lab.spread([1.0, 4.0])["median"] == 2.5


def test_contenders_run_in_turn_and_every_run_is_kept(tmp_path):
    order = []

    def contender(name, base):
        def run(repeat):
            order.append((name, repeat))
            return speed(base + repeat)

        return run

    result = lab.measure("speeds", {"a": contender("a", 10.0), "b": contender("b", 20.0)}, options(tmp_path))
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    written = json.loads((tmp_path / "speeds.json").read_text())
    assert written == result
    assert written["complete"] and len(written["runs"]) == 4
    assert written["summary"]["b"]["steps_per_second"] == {"median": 20.5, "min": 20.0, "max": 21.0, "count": 2}
    assert written["versions"] == {"a": {"jax": "1.0"}, "b": {"jax": "1.0"}}
    assert set(written["runs"][0]) == {"contender", "repeat", "load_average", "busy_before", "values"}
    assert written["settings"] == {"repeats": 2, "pause": 0.0}  # the places of files on this machine are not kept


def test_an_interrupt_keeps_the_runs_that_are_done(tmp_path):
    def interrupted(repeat):
        raise KeyboardInterrupt

    result = lab.measure("cut", {"a": lambda repeat: speed(1.0), "b": interrupted}, options(tmp_path))
    written = json.loads((tmp_path / "cut.json").read_text())
    assert written == result
    assert not written["complete"]
    assert lab.exit_status(written) == 130
    assert [run["contender"] for run in written["runs"]] == ["a"]


def test_a_contender_that_fails_does_not_stop_the_others(tmp_path):
    def failing(repeat):
        raise BenchmarkError("it is not installed")

    result = lab.measure("failing", {"a": failing, "b": lambda repeat: speed(1.0)}, options(tmp_path))
    assert not result["complete"]
    assert lab.exit_status(result) == 1
    assert result["runs"][0]["error"] == "it is not installed"
    assert list(result["summary"]) == ["b"]


def test_ratios_are_formed_within_a_repeat():
    # The machine slowed down by half between the repeats: the ratio does not see it.
    measured = runs(("a", 0, 20.0), ("b", 0, 10.0), ("a", 1, 10.0), ("b", 1, 5.0))
    assert lab.compare(measured, Ratio("speed", "a", ("b",))) == {"median": 2.0, "min": 2.0, "max": 2.0, "count": 2}


def test_a_ratio_against_several_takes_the_best_of_each_repeat():
    measured = runs(("a", 0, 12.0), ("b", 0, 4.0), ("c", 0, 6.0), ("a", 1, 12.0), ("b", 1, 3.0), ("c", 1, 2.0))
    assert lab.compare(measured, Ratio("speed", "a", ("b", "c")))["median"] == 3.0
    assert Ratio("speed", "a", ("b", "c")).title == "a / best of b or c"


def test_a_repeat_in_which_one_side_is_missing_gives_no_ratio():
    measured = runs(("a", 0, 2.0), ("a", 1, 2.0), ("b", 1, 1.0))
    assert lab.compare(measured, Ratio("speed", "a", ("b",)))["count"] == 1
    assert lab.compare(measured, Ratio("speed", "a", ("c",))) is None


def test_processes_side_by_side_are_measured_over_their_common_while():
    # 0 to 10 s at 1 per second, 5 to 15 s at 3 per second: in common 5 to 10 s.
    together, share = lab.common_speed([[(0.0, 0.0), (10.0, 10.0)], [(5.0, 100.0), (10.0, 115.0), (15.0, 130.0)]])
    assert together == pytest.approx(4.0)
    assert share == pytest.approx(0.5)
    with pytest.raises(BenchmarkError, match="not measured at the same time"):
        lab.common_speed([[(0.0, 0.0), (1.0, 1.0)], [(2.0, 0.0), (3.0, 1.0)]])


def test_the_table_shows_medians_ranges_and_ratios(tmp_path, capsys):
    ratio = Ratio("steps_per_second", "a", ("b",))
    contenders = {"a": lambda repeat: speed(200.0 + repeat), "b": lambda repeat: speed(100.0)}
    lab.measure("table", contenders, options(tmp_path), [ratio])
    assert capsys.readouterr().out.splitlines() == [
        "|  | steps per second |",
        "| --- | ---: |",
        "| a | 200 (200 to 201) |",
        "| b | 100 (100 to 100) |",
        "",
        "- a / b: steps_per_second: 2 (2 to 2.01)",
    ]


def test_hardware_is_described_in_plain_terms():
    found = lab.hardware()
    assert found["summary"] == f"{found['cores']}-core {found['summary'].split(' ', 1)[1]}"
    assert found["summary"].endswith(" CPU")
    assert found["cores"] >= 1
