"""Claims are judged by intervals, over the seeds that both contenders have."""

import pytest

from benchmarks.lab import claims
from maxent_rl.reports.statistics import Interval


def result_of(one, other, metric="number"):
    def runs(name, values):
        return [
            {"env": "srpo", "contender": name, "repeat": index, "values": {metric: value}}
            for index, value in enumerate(values)
        ]

    return {"runs": runs("srpo", one) + runs("grpo", other), "complete": True}


@pytest.mark.parametrize(
    ("direction", "difference", "chance", "expected"),
    [
        ("more", (0.1, 0.01, 0.2), (0.9, 0.6, 1.0), "holds here"),
        ("more", (0.1, 0.01, 0.2), (0.7, 0.4, 0.9), "not decided"),
        ("more", (-0.1, -0.2, -0.01), (0.1, 0.0, 0.4), "does not"),
        ("not less", (0.0, -0.019, 0.3), (0.5, 0.1, 0.9), "holds here"),
        ("not less", (-0.1, -0.2, -0.03), (0.0, 0.0, 0.1), "does not"),
        ("not less", (0.0, -0.1, 0.1), (0.5, 0.2, 0.8), "not decided"),
        ("not more", (-0.2, -0.3, 0.01), (0.1, 0.0, 0.4), "holds here"),
        ("not more", (0.2, 0.03, 0.3), (0.9, 0.8, 1.0), "does not"),
    ],
)
def test_verdicts_need_intervals(direction, difference, chance, expected):
    assert claims.verdict(direction, Interval(*difference), Interval(*chance)) == expected


def test_claims_are_judged_over_the_seeds_that_both_have():
    claim = claims.Claim("X", "", "srpo", "number", "srpo", "grpo")
    found = claims.judged(result_of([2.0, 2.2, 2.1, 9.0], [1.0, 1.1, 1.2]), "srpo", claim)
    assert found.difference.estimate == pytest.approx(1.0) and found.verdict == "holds here"
    assert claims.judged(result_of([], [1.0]), "srpo", claim) is None


def test_some_numbers_are_those_of_a_pair():
    claim = claims.Claim("X", "", "srpo", "ratio", "srpo", "grpo")
    ratio = {"ratio": lambda one, other: (one["values"]["number"] / other["values"]["number"], 1.0)}
    found = claims.judged(result_of([2.0, 4.0], [1.0, 2.0]), "srpo", claim, ratio)
    assert (found.one, found.other, found.difference.estimate) == (2.0, 1.0, 1.0)
