"""The study of MuJoCo tasks: who runs with which flags, the published points, the table of curves."""

from __future__ import annotations

import json

import pytest

from benchmarks.lab.curves import write_curves
from benchmarks.lab.measure import BenchmarkError
from benchmarks.studies.mujoco.__main__ import STUDY
from benchmarks.studies.mujoco.published import PUBLISHED
from benchmarks.studies.mujoco.setting import CONTENDERS, ENVS, LABELS, TRIALS, Long, Short, Trials
from experiments import run as command


@pytest.mark.slow
@pytest.mark.parametrize("plan", [Short(), Long(seed=7), Trials()], ids=lambda plan: plan.part)
def test_contenders_have_equal_steps_and_seeds_and_flags_of_run(plan):
    for env in plan.envs:
        runs = [command.parse(list(unit.flags)).run for unit in plan.units() if unit.env == env]
        assert len(runs) == len(plan.contenders) and {run.env for run in runs} == {env}
        assert {(run.total_steps, run.num_seeds, run.seed, run.eval_every) for run in runs} == {
            (plan.total_steps, plan.num_seeds, plan.seed, 5_000)
        }


def test_every_task_has_published_points_and_every_contender_a_label():
    assert set(PUBLISHED) == set(ENVS) and set(LABELS) == {*CONTENDERS, *TRIALS}
    assert all(
        [step for step, _, _ in each.points] == [50_000, 100_000, 300_000] for env in ENVS for each in PUBLISHED[env]
    )


def test_unknown_names_are_told():
    with pytest.raises(BenchmarkError, match="Unknown contender 'sacc'"):
        Short(contenders=("sacc",)).units()
    with pytest.raises(BenchmarkError, match="Unknown task 'Swimmer'"):
        Short(envs=("Swimmer",)).units()


def test_the_recorded_curves_are_those_of_the_results(tmp_path):
    for part, result in STUDY.load().items():
        write_curves(json.loads(json.dumps(result)), tmp_path / "again.csv")
        assert (tmp_path / "again.csv").read_text() == (STUDY.results / f"{part}.csv").read_text()
