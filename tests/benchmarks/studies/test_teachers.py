"""The study's parts: scores at equal divergence, and policies that learn and are looked at."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.lab.measure import BenchmarkError
from benchmarks.studies.teachers import claims, measure
from benchmarks.studies.teachers.setting import LABELS, Routing, Soups, WarmStarts


def test_courses_are_compared_where_both_have_been():
    far, score, other_far, other_score = [0, 2, 4], [0.1, 0.3, 0.7], [0, 1, 3], [0.1, 0.2, 0.6]
    np.testing.assert_allclose(claims.at_equal(far, score, other_far, other_score), (0.5, 0.6))
    # Of the one 0.1 + 0.1 f up to 2 and 0.3 + 0.2 (f - 2) beyond: (0.4 + 0.4) / 3; of the other (0.15 + 0.8) / 3.
    np.testing.assert_allclose(
        claims.below_equal(far, score, other_far, other_score), (0.8 / 3, 0.95 / 3), atol=6e-4
    )  # to three digits
    np.testing.assert_allclose(claims.at_equal([0, 4, 2], [0.1, 0.7, 0.3], other_far, other_score), (0.5, 0.6))


def test_claims_are_about_contenders_and_parts_that_there_are():
    parts = {plan.part: plan for plan in (Routing, WarmStarts, Soups)}
    for claim in claims.CLAIMS:
        assert {claim.one, claim.other} <= set(parts[claim.part].known)
    assert set(LABELS) == {name for plan in parts.values() for name in plan.known}
    with pytest.raises(BenchmarkError, match="Unknown contender 'grpoo'"):
        Routing(contenders=("grpoo",)).units()


def test_units_differ_where_their_numbers_do():
    units = [unit for plan in (Routing(), WarmStarts(), Soups(weights=(0.02, 0.1))) for unit in plan.units()]
    texts = [json.dumps(unit.settings, sort_keys=True) for unit in units]
    assert len(set(texts)) == len(units) == 12
    assert [unit.env for unit in units[6:]] == ["weight 0.02"] * 3 + ["weight 0.1"] * 3


@pytest.mark.slow
def test_a_policy_grows_apart_from_its_start_and_from_the_soup(tmp_path):
    plan = Soups(num_seeds=2, responses=16, iterations=4, points=4, prompts=8, warm_batches=20, tuned_batches=20)
    unit = plan.units()[1]
    found = measure.measure(unit, plan, tmp_path)
    assert unit.contender == "salsa" and [each.seed for each in found.seeds] == [0, 1]
    values = found.seeds[0].values
    assert values["divergence from start, first"] == pytest.approx(0, abs=1e-5)
    assert values["divergence from soup, first"] > 1e-5
    assert values["divergence from start, end"] > 1e-5
    again = measure.measure(unit, dataclasses.replace(plan), tmp_path)
    assert again.seeds[0].values == values
