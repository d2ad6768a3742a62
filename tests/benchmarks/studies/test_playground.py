"""The study of on-policy learning on the device: who runs with which flags, what is kept of a run, the table of curves."""

from __future__ import annotations

import csv
import json

import pytest

from benchmarks.lab.measure import BenchmarkError
from benchmarks.lab.runs import read_rows
from benchmarks.studies.playground.__main__ import STUDY
from benchmarks.studies.playground.figure import draw, write_curves
from benchmarks.studies.playground.measure import read_seeds
from benchmarks.studies.playground.setting import LABELS, Brax, Playground, Together
from experiments import run as command
from maxent_rl.agents.base import rollout_time
from maxent_rl.types import Spec

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
METRICS = """step,seed,updates,steps_per_second
100,0,0,50
200,0,1,1
300,0,2,30
400,0,3,40
100,1,0,50
"""


@pytest.mark.parametrize("plan", [Brax(), Together(), Playground(arguments="--seed 7")], ids=lambda plan: plan.part)
def test_contenders_have_equal_steps_and_environments_and_flags_of_run(plan):
    for env in plan.envs:
        runs = [command.parse(list(unit.flags)) for unit in plan.units() if unit.env == env]
        assert [each.run.agent for each in runs] == list(LABELS)
        assert len({(each.run.total_steps, each.run.num_envs, each.run.num_seeds, each.run.seed) for each in runs}) == 1
        assert runs[0].run.total_steps == plan.total_steps and runs[0].run.seed == (7 if "7" in plan.arguments else 0)
        assert {each.run.stagger_episodes for each in runs} == {plan.part != "together"}
        for each in runs:
            steps = rollout_time(each.hyper, Spec((3,), (2,), 1_000, num_envs=each.run.num_envs)) * each.run.num_envs
            assert steps == each.hyper.rollout_size and steps % each.hyper.minibatches == 0
            assert plan.total_steps >= 10 * steps


def test_unknown_contenders_are_named():
    with pytest.raises(BenchmarkError, match="Unknown contender 'sac'; there are: ppo, reppo"):
        Brax(contenders=("sac",)).units()


def test_what_is_kept_of_each_seed(tmp_path):
    """The return is the mean of the last three evaluations; speeds are those while learning, without the first line."""
    (tmp_path / "eval.csv").write_text(EVALUATIONS)
    (tmp_path / "metrics.csv").write_text(METRICS)
    first, second = read_seeds(*(read_rows(tmp_path / name) for name in ("metrics.csv", "eval.csv")))
    assert (first.seed, second.seed) == (0, 1)
    assert first.values == {"return": 5.0, "halfway": 3.0, "mean": 4.0, "steps_per_second": 35.0}
    assert second.values == {"return": 6.0, "halfway": 4.0, "mean": 5.0}
    assert first.more["curve"] == [(100, 1.0), (200, 3.0), (300, 5.0), (400, 7.0)]


def test_curves_are_one_row_for_each_evaluation_and_are_drawn(tmp_path):
    runs = [
        {"env": "brax/x", "contender": name, "repeat": seed, "curve": [[10, 1.5 + seed], [20, 2.5]]}
        for name in LABELS
        for seed in range(2)
    ]
    write_curves(
        {"runs": [*runs, {"env": "brax/x", "contender": "ppo", "repeat": 0, "error": "no"}]}, tmp_path / "a.csv"
    )
    rows = list(csv.reader((tmp_path / "a.csv").open()))
    assert rows[0] == ["env", "contender", "seed", "step", "return"] and len(rows) == 9
    assert rows[3] == ["brax/x", "ppo", "1", "10", "2.5"]
    draw({"runs": runs}, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_recorded_curves_are_those_of_the_results(tmp_path):
    for part, result in STUDY.load().items():
        write_curves(json.loads(json.dumps(result)), tmp_path / "again.csv")
        assert (tmp_path / "again.csv").read_text() == (STUDY.results / f"{part}.csv").read_text()
