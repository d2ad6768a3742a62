"""`experiments/report.py`: what it prints and writes, and that its errors are one sentence."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path

import pytest
from run_folders import make_run

ROOT = Path(__file__).parents[2]
QUICK = ("--bootstrap", "50")


@pytest.fixture(scope="module")
def main():
    path = ROOT / "experiments" / "report.py"
    spec = importlib.util.spec_from_file_location("experiments_report", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.main


@pytest.mark.slow
def test_it_prints_the_table_and_the_files_that_it_wrote(main, tmp_path, capsys):
    make_run(tmp_path / "runs" / "one", {0: [1.0, 2.5], 1: [2.0, 3.5]})
    assert main([str(tmp_path / "runs"), *QUICK]) == 0
    table, _, files = capsys.readouterr().out.rpartition("\n\n")
    assert "| Pendulum-v1 | sac    | 3.000 | [2.500, 3.500] |     2 | 2,000 |" in table
    folder = tmp_path / "runs" / "report"
    names = ["report.html", "table.md", "table.csv", "aggregates.csv"]
    names += [f"figures/{name}.png" for name in ("curve-1-Pendulum-v1", "clock-1-Pendulum-v1", "profiles")]
    assert files.split() == [str(folder / name) for name in names]
    assert all((folder / name).stat().st_size for name in names)
    (row,) = csv.DictReader((folder / "table.csv").open())
    assert (row["scores"], row["seed_numbers"], row["iqm"]) == ("2.5 3.5", "0 1", "3.0")
    assert (folder / "table.md").read_text().strip() == table.strip()


@pytest.mark.slow
def test_the_table_names_folders_as_they_are_whatever_they_hold(main, tmp_path, capsys):
    make_run(tmp_path / "runs" / "one", {0: [1.0]})
    make_run(tmp_path / "runs" / "t|o\n# Heading", {0: []})
    assert main([str(tmp_path / "runs"), *QUICK]) == 0
    table = (tmp_path / "runs" / "report" / "table.md").read_text()
    assert "t\\|o # Heading: it has no evaluation yet." in table and "\n# Heading" not in table


@pytest.mark.slow
def test_several_folders_are_compared_below_what_holds_them(main, tmp_path, capsys, monkeypatch):
    make_run(tmp_path / "runs" / "one", {0: [1.0]}, agent={"learning_rate": 1e-2})
    make_run(tmp_path / "runs" / "two", {0: [2.0]}, agent={"learning_rate": 1e-3})
    make_run(tmp_path / "runs" / "three", {0: [3.0]}, agent={"learning_rate": 1e-4})
    monkeypatch.chdir(tmp_path)
    assert main(["runs/one", "runs/two", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "learning_rate=0.01" in out and "learning_rate=0.001" in out and "learning_rate=0.0001" not in out
    assert "runs/report/report.html" in out.split()
    assert (tmp_path / "runs" / "report" / "report.html").is_file()


@pytest.mark.slow
def test_the_evaluation_the_metric_and_the_scale_can_be_chosen(main, tmp_path, capsys):
    make_run(tmp_path / "run", {0: [1.0, 5.0, 2.0]})
    (tmp_path / "scale.json").write_text('{"Pendulum-v1": [0, 10]}')
    output = tmp_path / "elsewhere"
    flags = [str(tmp_path / "run"), "--output", str(output), "--normalize-by", str(tmp_path / "scale.json"), *QUICK]
    for at, value, scaled in (("final", "2.0", "0.2"), ("best", "5.0", "0.5"), ("1_000", "1.0", "0.1")):
        assert main([*flags, "--at", at]) == 0
        (row,) = csv.DictReader((output / "table.csv").open())
        assert (row["iqm"], row["iqm_normalized"], row["reference_high"]) == (value, scaled, "10.0")
    assert main([*flags, "--metric", "length_mean"]) == 0
    assert "200.0" in capsys.readouterr().out


@pytest.mark.slow
def test_killed_and_unreadable_runs_are_named_and_the_others_compared(main, tmp_path, capsys):
    make_run(tmp_path / "good", {0: [1.0, 2.0]})
    killed = make_run(tmp_path / "killed", {1: [1.0]}, total=2000)
    (killed / "eval.csv").open("a").write("2000,1,4")
    (make_run(tmp_path / "torn", {2: [1.0]}) / "config.json").write_text("{")
    assert main([str(tmp_path), *QUICK]) == 0
    out = capsys.readouterr().out
    assert "seed 1 of sac on Pendulum-v1: unfinished (1,000 of 2,000 steps)" in out
    assert f"- Left out: {tmp_path / 'torn'}: " in out
    assert "|     1 | 2,000 |" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere"], "There is no folder nowhere."),
        (["empty"], "No runs found below empty"),
        (["run", "--at", "soon"], "--at must be final, best or a number of environment steps, got 'soon'."),
        (["run", "--at", "-5"], "--at must be"),
        (["run", "--at", "99999"], "No run has an evaluation at step 99,999"),
        (["run", "--metric", "return_meen"], "Did you mean 'return_mean'"),
        (["run", "--bootstrap", "0"], "--bootstrap must be at least 1"),
        (["run", "--normalize-by", "missing.json"], "missing.json cannot be read"),
        (["run", "--output", "run/eval.csv"], "Cannot make the folder run/eval.csv/figures"),
    ],
)
def test_errors_are_one_sentence(main, tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run", {0: [1.0]})
    (tmp_path / "empty").mkdir()
    assert main(flags) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.slow
def test_the_recorded_runs_of_the_benchmarks_are_read(main, tmp_path, capsys):
    records = ROOT / "benchmarks" / "studies" / "learning" / "results"
    assert main([str(records), "--output", str(tmp_path / "report"), *QUICK]) == 0
    assert "HalfCheetah-v5" in capsys.readouterr().out
