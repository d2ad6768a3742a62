"""Plain training: what is repeated, what is kept of it, and what the table says."""

from __future__ import annotations

import pytest

from benchmarks.lab.measure import BenchmarkError
from benchmarks.lab.runs import read_rows
from benchmarks.studies.learning import measure as measuring
from benchmarks.studies.learning.__main__ import STUDY
from benchmarks.studies.learning.setting import RECORDS, RUNS, Learning

EVALUATIONS = """step,seed,return_mean
100,0,1.0
100,1,2.0
200,0,3.0
200,1,4.0
300,0,5.0
300,1,6.0
400,0,7.0
400,1,8.0
"""


def test_every_recorded_run_is_repeated_by_its_configuration():
    assert {path.name for path in RECORDS.iterdir() if path.is_dir() and path.name != "work"} == set(RUNS)
    assert [unit.contender for unit in Learning().units()] == list(RUNS)
    with pytest.raises(BenchmarkError, match="Unknown run 'sac'"):
        Learning(runs=("sac",)).units()


def test_recorded_values_are_those_of_the_records():
    for unit in Learning().units():
        seeds = measuring.read_seeds(read_rows(RECORDS / unit.contender / "eval.csv"))
        runs = [run for run in STUDY.load()["learning"]["runs"] if run["contender"] == unit.contender]
        assert [(run["repeat"], run["values"]) for run in runs] == [(seed.seed, seed.values) for seed in seeds]


def test_a_run_leaves_its_records_and_its_returns_halfway_and_at_the_end(tmp_path, monkeypatch):
    def trained_run(folder, name, flags):
        assert flags == ["--config", str(RECORDS / name / "config.json")]
        run = folder / name / "runs" / "run"
        run.mkdir(parents=True)
        (run / "eval.csv").write_text(EVALUATIONS)
        (run / "checkpoint").write_text("")
        return run

    monkeypatch.setattr(measuring, "trained_run", trained_run)
    result = STUDY.run(Learning(runs=("ppo-CartPole-v1",)), tmp_path)
    values = [run["values"] for run in result["runs"]]
    assert values == [{"half": 3.0, "last": 7.0, "steps": 400.0}, {"half": 4.0, "last": 8.0, "steps": 400.0}]
    kept = [path.name for path in (tmp_path / "ppo-CartPole-v1").iterdir()]
    assert kept == ["eval.csv"] and not (tmp_path / "work" / "ppo-CartPole-v1").exists()
    assert "| CartPole-v1 | 400 | 3.5 (3 to 4) | 7.5 (7 to 8) | 7 8 |" in STUDY.render(tmp_path)
