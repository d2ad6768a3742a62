"""The study's parts: worlds begin where they say, claims are judged by their intervals, and policies learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.lab.measure import BenchmarkError
from benchmarks.studies.credit import measure, worlds
from benchmarks.studies.credit.claims import CLAIMS, Claim, judged
from benchmarks.studies.credit.policy import Training, scores, trained
from benchmarks.studies.credit.setting import QUESTIONS, Credit
from maxent_rl.tokens import objectives


def result_of(one, other):
    def runs(name, values):
        return [
            {"env": "hapo", "contender": name, "repeat": index, "values": {"number": value}}
            for index, value in enumerate(values)
        ]

    return {"runs": runs("one", one) + runs("other", other), "complete": True}


@pytest.mark.parametrize(
    ("one", "other", "direction", "margin", "verdict"),
    [
        ([2.0, 2.1, 1.9], [1.0, 1.0, 1.0], "more", 0, "holds"),
        ([2.0, 2.1, 1.9], [1.0, 1.0, 1.0], "less", 0, "does not hold"),
        ([2.0, 1.0, 0.0], [1.0, 1.0, 1.0], "more", 0, "not decided"),
        ([1.0, 1.01, 0.99], [1.0, 1.0, 1.0], "equal", 0.1, "holds"),
        ([1.5, 1.51, 1.49], [1.0, 1.0, 1.0], "equal", 0.1, "does not hold"),
        ([1.1, 1.2, 1.0], [1.0, 1.0, 1.0], "equal", 0.1, "not decided"),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], "more", 0, "does not hold"),
    ],
)
def test_claims_are_judged_by_their_intervals(one, other, direction, margin, verdict):
    found = judged(result_of(one, other), Claim("X", "", "hapo", "number", "one", "other", direction, margin))
    assert found.holds == verdict and found.low <= found.difference <= found.high


def test_claims_are_about_contenders_that_there_are():
    for claim in CLAIMS:
        contenders = QUESTIONS[claim.question].contenders
        assert claim.one in contenders and (not isinstance(claim.other, str) or claim.other in contenders)
    assert {claim.paper for claim in CLAIMS} == {"HAPO", "ProGRPO", "BAPO", "ARES", "G2RPO", "RiskPO", "COPO", "EMPO"}
    with pytest.raises(BenchmarkError, match="Unknown question 'happo'"):
        Credit(questions=("happo",)).units()


@pytest.mark.parametrize(
    ("world", "expected"),
    [(worlds.replayed, (0.06, 0.14)), (worlds.taught, (0.02, 0.3)), (worlds.majorities, (0.43, 0.43))],
)
def test_worlds_begin_where_they_say(world, expected):
    start = measure.exact_start(world())
    low, high = expected
    assert low - 1e-6 <= start.mean() <= high + 1e-6 and start.shape == (world().prompts,)


@pytest.mark.slow
def test_a_place_knows_the_sum_before_it():
    world = worlds.sums()
    found = scores(world, jnp.asarray(world.logits), jnp.array([3]), jnp.array([[7, 9, 0]]))
    expected = jax.nn.log_softmax(jnp.asarray(world.logits)[3, jnp.arange(3), jnp.array([0, 7, 4])])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_thoughts_end_with_an_answer():
    world, tokens = worlds.thinking(), jnp.array([[4, 0, 0], [1, 4, 2], [2, 2, 2]])
    ends = jnp.cumsum(tokens == 4, axis=1) - (tokens == 4)
    reward = world.judge(jnp.array([0, 0, 0]), tokens, ends == 0, jax.random.key(0))
    assert reward.shape == (3,) and reward[2] == 0


@pytest.mark.slow
def test_policies_learn():
    keys = jax.random.split(jax.random.key(0), 2)
    training = Training(group=8, iterations=60, learning_rate=0.1)
    params, course = trained(worlds.replayed(), objectives.make("grpo"), training, keys)
    assert params.shape[0] == 2 and course["reward"].shape == (2, 60)
    assert np.all(course["reward"][:, :5].mean(axis=1) < 0.3) and np.all(course["reward"][:, -5:].mean(axis=1) > 0.6)
