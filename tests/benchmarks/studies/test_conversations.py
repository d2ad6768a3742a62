"""The study's parts: when a task counts as solved, whose forks there are, and policies that talk, learn and are looked at."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.lab.measure import BenchmarkError
from benchmarks.studies.conversations import measure
from benchmarks.studies.conversations.setting import LABELS, PARTS, Forked, Modulation
from benchmarks.studies.conversations.tables import CLAIMS
from maxent_rl.tokens import objectives


def test_a_task_is_solved_where_its_curve_crosses_the_bar():
    assert measure.reached(np.array([0.1, 0.8, 1.0, 0.7]), 30) == pytest.approx(15)
    assert measure.reached(np.array([0.1, 0.8, 0.89]), 30) == 30
    assert measure.reached(np.array([0.95, 0.8]), 30) == 0


def test_forks_are_counted_by_who_was_forked_from():
    """Of eight rooms five are forks, from rows 0, 0, 0, 1 and 2; one room is empty; two conversations are equal."""
    parent = jnp.array([-1, -1, 0, 0, 0, 1, 2, -1])
    free = jnp.array([False] * 7 + [True])
    tokens = jnp.array([[[1, 2]], [[1, 3]], [[1, 4]], [[1, 5]], [[1, 2]], [[3, 3]], [[4, 4]], [[0, 0]]]).reshape(
        1, 8, 2
    )
    found = measure.branching(parent, free, tokens, 8)
    assert found["forks"] == 5 and found["share of the top three"] == 1.0
    assert found["different"] == pytest.approx(6 / 7)
    spread = measure.branching(jnp.array([-1, 0, 1, 2, 3, 4, 5, -1]), free, tokens, 8)
    assert spread["share of the top three"] == pytest.approx(3 / 6)


def test_claims_are_about_contenders_and_parts_that_there_are():
    for claim in CLAIMS:
        assert {claim.one, claim.other} <= LABELS[claim.part].keys()
    for plan in PARTS:
        units = plan().units()
        assert len({json.dumps(unit.settings, sort_keys=True) for unit in units}) == len(units) == len(plan.arms)
        for name in plan.arms:
            assert objectives.make(plan().agent(name).objective)
    with pytest.raises(BenchmarkError, match="Unknown contender 'grpoo'"):
        Modulation(contenders=("grpoo",)).units()


@pytest.mark.slow
def test_policies_talk_learn_and_fork(tmp_path):
    small = {"num_seeds": 2, "responses": 16, "prompts": 4, "warm_batches": 20}
    plan = Modulation(iterations=4, points=4, **small)
    found = measure.measure(plan.units()[1], plan, tmp_path)
    values = found.seeds[0].values
    assert [each.seed for each in found.seeds] == [0, 1] and len(found.seeds[0].more["course"]["pass@1"].split()) == 5
    assert 0 <= values["gradient of unsure turns, first"] <= 1 and values["iterations to 90 %"] == 4
    fork = Forked(**small)
    found = measure.measure(fork.units()[0], fork, tmp_path)
    assert 0 < found.seeds[0].values["different"] <= 1
