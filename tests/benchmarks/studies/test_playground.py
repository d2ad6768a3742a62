"""The study of on-policy learning on the device: who runs with which flags, what is kept of a run, the table of curves."""

from __future__ import annotations

import json

import pytest

from benchmarks.lab.curves import write_curves
from benchmarks.lab.measure import BenchmarkError
from benchmarks.studies.playground.__main__ import STUDY
from benchmarks.studies.playground.setting import LABELS, Brax, Playground, Together
from experiments import run as command
from maxent_rl.agents.base import rollout_time
from maxent_rl.types import Spec


@pytest.mark.slow
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


def test_the_recorded_curves_are_those_of_the_results(tmp_path):
    for part, result in STUDY.load().items():
        write_curves(json.loads(json.dumps(result)), tmp_path / "again.csv")
        assert (tmp_path / "again.csv").read_text() == (STUDY.results / f"{part}.csv").read_text()
