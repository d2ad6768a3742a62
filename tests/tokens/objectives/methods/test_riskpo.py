"""RiskPO: bundles and papers, the slope of the risk measure, quantiles that follow, and the released code's forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_batches import responses

from maxent_rl.tokens import TokenBatch, objectives
from maxent_rl.tokens.objectives import RiskAdvantage
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.objectives.methods.riskpo import RiskState, bundle_quantiles

SCORES = jnp.array([0.0, 1, 2, 3])
REWARDS = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 0]], np.float32)
GIVEN = RiskAdvantage(bundle_order="given", risk_form="mixed", risk_scale="bundle")


def batch_of(rewards, group_size=4, **fields):
    rewards = np.asarray(rewards, np.float32).ravel()
    shape = (len(rewards), 2)
    return TokenBatch(jnp.zeros(shape), jnp.ones(shape, bool), jnp.asarray(rewards), group_size, **fields)


def state_at(low, high, seed=0):
    return RiskState(jnp.array([low, high]), jnp.asarray(True), jax.random.key(seed))


@jax.jit
def prepared(stage, state, batch):
    return stage.prepare(state, batch)


def advantages_of(stage, batch, state=None):
    return np.asarray(prepared(stage, state_at(1.0, 2.5) if state is None else state, batch)[1].advantages)


def test_slopes_of_the_example():
    paper = RiskAdvantage()
    np.testing.assert_allclose(paper.advantages(SCORES, 1.0, 2.5), [-3, -1.5, -0.5, 0], atol=1e-6)
    np.testing.assert_allclose(jnp.clip(SCORES, 1.0, 2.5) - 2.5, [-1.5, -1.5, -0.5, 0], atol=1e-6)
    mixed = RiskAdvantage(risk_form="mixed")
    natural = mixed.replace(natural_baseline=True)
    np.testing.assert_allclose(natural.advantages(SCORES, 1.0, 2.5), [-3.999983, -0.999998, -0.333333, 0], atol=2e-5)
    np.testing.assert_allclose(mixed.advantages(SCORES, 1.0, 2.5), [-2.999985, 0, 0.666666, 0.999998], atol=2e-5)
    seeking = RiskAdvantage(risk_form="seeking").advantages(jnp.array([4.0]), 1.0, 2.5)
    np.testing.assert_allclose(seeking, (1.5 * 1.5 / 0.200001 + 1.5 / 0.600001) / 2.5, rtol=1e-5)


def test_two_forms_of_the_slope_are_one():
    score = np.linspace(-1, 6, 50)
    found = RiskAdvantage(tail_weight=0.7).advantages(jnp.asarray(score), 1.0, 2.5)
    np.testing.assert_allclose(found, -0.7 * np.maximum(1 - score, 0) - np.maximum(2.5 - score, 0), atol=1e-5)


@pytest.mark.slow
def test_the_bundle_of_the_example():
    """Papers pair responses by their place; their scores are 2, 1, 3 and 1."""
    batch = batch_of(REWARDS)
    papers = GIVEN.papers(Grouping.of(batch), jax.random.key(0))
    np.testing.assert_array_equal(papers.paper.reshape(3, 4), np.broadcast_to(np.arange(4), (3, 4)))
    np.testing.assert_array_equal(papers.questions, np.full(12, 3))
    found = advantages_of(GIVEN, batch).reshape(3, 4)
    np.testing.assert_allclose(found, np.broadcast_to([0.696309, 0, 1.044463, 0], (3, 4)), atol=1e-5)
    natural = advantages_of(GIVEN.replace(natural_baseline=True), batch).reshape(3, 4)
    np.testing.assert_allclose(natural, np.broadcast_to([-0.348154, -1.044463, 0, -1.044463], (3, 4)), atol=1e-5)


@pytest.mark.slow
def test_credit_within_papers():
    batch = batch_of(REWARDS)
    divided = advantages_of(GIVEN.replace(risk_credit="sum-mean"), batch).reshape(3, 4)
    np.testing.assert_allclose(divided[:, 0], [0.696309, -0.696309, 0.696309], atol=1e-5)
    plain = advantages_of(GIVEN, batch).reshape(3, 4)
    np.testing.assert_allclose(divided[:, 0].sum(), plain[0, 0], atol=1e-5)
    halves = advantages_of(GIVEN.replace(risk_credit="score"), batch).reshape(3, 4)
    np.testing.assert_allclose(halves, plain * np.where(REWARDS > 0, 0.5, 1.5), atol=1e-6)
    scaled = advantages_of(GIVEN.replace(risk_credit="std"), batch).reshape(3, 4)
    np.testing.assert_allclose(scaled, plain / (REWARDS.std(axis=1, ddof=1) + 1e-6)[:, None], rtol=1e-5)
    wrong = advantages_of(GIVEN.replace(risk_credit="sum-mean"), batch_of(np.zeros((3, 4))))
    shared = advantages_of(GIVEN, batch_of(np.zeros((3, 4))))
    np.testing.assert_allclose(wrong, shared / 3, rtol=1e-5)  # nothing to divide it by


def test_equal_scores_do_not_explode():
    found = advantages_of(GIVEN, batch_of(np.zeros((3, 4))))
    np.testing.assert_allclose(found, np.full(12, -2.999985 / (1 + 1e-6)), rtol=1e-5)


@pytest.mark.slow
def test_every_response_is_in_one_paper():
    """Drawn bundles take each response once, one of each question."""
    batch = batch_of(np.arange(40) % 3 == 0)
    papers = RiskAdvantage(bundle_size=3).papers(Grouping.of(batch), jax.random.key(1))
    paper, bundle = np.asarray(papers.paper), np.asarray(papers.bundle)
    assert (
        set(np.bincount(paper)) == {3, 1} and paper.max() == 15
    )  # ten questions: three bundles of three and one of one
    for number in np.unique(paper):
        questions = np.flatnonzero(paper == number) // 4
        assert len(set(questions)) == len(questions) and len(set(bundle[paper == number])) == 1
    other = RiskAdvantage(bundle_size=3).papers(Grouping.of(batch), jax.random.key(2))
    assert not np.array_equal(other.bundle, bundle)


@pytest.mark.slow
def test_responses_that_are_left_over_have_no_advantage():
    """Of unequal groups there are as many papers as the smallest has responses."""
    index = jnp.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    batch = batch_of(np.zeros(9), 1, group_index=index)
    found = advantages_of(GIVEN, batch)
    np.testing.assert_array_equal(found != 0, [1, 1, 0, 0, 1, 1, 1, 1, 0])


@pytest.mark.slow
def test_quantiles_begin_with_the_batch_and_follow():
    stage = RiskAdvantage(bundle_size=1, bundle_order="given")
    batch = batch_of([[0, 1, 2, 3, 4]], 5)
    first, _ = prepared(stage, stage.init(jax.random.key(0)), batch)
    np.testing.assert_allclose(first.quantiles, [0.8, 3.2], atol=1e-6)
    second, _ = prepared(stage, first, batch)
    np.testing.assert_allclose(second.quantiles, [0.8, 3.2], atol=1e-6)  # a fifth, and four fifths, are below
    moved, _ = prepared(stage, state_at(2.5, 2.5), batch)
    np.testing.assert_allclose(moved.quantiles, [2.5 + 0.1 * (0.2 - 0.6), 2.5 + 0.1 * (0.8 - 0.6)], atol=1e-6)
    nothing, _ = prepared(stage, first, dataclasses.replace(batch, mask=jnp.zeros((5, 2), bool)))
    np.testing.assert_array_equal(nothing.quantiles, first.quantiles)


@pytest.mark.slow
def test_quantiles_of_each_bundle():
    batch = batch_of(REWARDS)
    stage = GIVEN.replace(bundle_size=2)
    papers = stage.papers(Grouping.of(batch), jax.random.key(0))
    scores = np.array([REWARDS[:2].sum(axis=0)] * 2 + [REWARDS[2]])
    found = bundle_quantiles(jnp.asarray(scores.ravel()), papers, jnp.array([0.2, 0.8]))
    expected = np.quantile(scores, [0.2, 0.8], axis=1)
    np.testing.assert_allclose(found.reshape(2, 3, 4), np.broadcast_to(expected[..., None], (2, 3, 4)), atol=1e-6)
    own = advantages_of(stage.replace(risk_quantiles="bundle", risk_scale="none"), batch).reshape(3, 4)
    np.testing.assert_allclose(own[0], stage.advantages(jnp.asarray(scores[0]), *expected[:, 0]), atol=1e-5)
    both = advantages_of(stage.replace(risk_quantiles="mixed", risk_scale="none"), batch).reshape(3, 4)
    mixed = (expected[:, 0] + np.array([1.0, 2.5])) / 2
    np.testing.assert_allclose(both[0], stage.advantages(jnp.asarray(scores[0]), *mixed), atol=1e-5)


@pytest.mark.parametrize("form", ["paper", "between", "mixed"])
def test_the_slope_is_that_of_the_risk_measure(form):
    """Of a distribution over outcomes: p (A - E A) is the numerical gradient of the measure, by quantiles inside atoms."""
    draw = np.random.default_rng(0)
    logits, rewards, low, high = draw.normal(size=6), np.sort(draw.normal(size=6)), 0.23, 0.77

    def integral(p, begin, end):
        """Of the quantile function, from one level to another."""
        above = np.cumsum(p)
        inside = np.minimum(above, end) - np.maximum(above - p, begin)
        return np.sum(np.maximum(inside, 0) * rewards)

    def measure(logits):
        p = np.exp(logits - np.logaddexp.reduce(logits))
        tail, between = integral(p, 0, low), integral(p, low, high)
        if form == "paper":
            return 1.5 * tail + between
        return between / (high - low) if form == "between" else (1.5 * tail / low + between / (high - low)) / 2.5

    p = np.exp(logits - np.logaddexp.reduce(logits))
    quantiles = [rewards[np.searchsorted(np.cumsum(p), level)] for level in (low, high)]
    settings = {"paper": {}, "between": {"mix_weight": 0.0, "risk_form": "mixed"}, "mixed": {"risk_form": "mixed"}}[
        form
    ]
    stage = RiskAdvantage(risk_low=low, risk_high=high, natural_baseline=True, **settings)
    advantages = np.asarray(stage.advantages(jnp.asarray(rewards), *quantiles), np.float64)
    found = p * (advantages - p @ advantages)
    steps = 1e-6 * np.eye(6)
    numeric = np.array([(measure(logits + step) - measure(logits - step)) / 2e-6 for step in steps])
    np.testing.assert_allclose(found, numeric, atol=2e-5)  # single precision, and the code's epsilons of 1e-6


@pytest.mark.slow
def test_it_may_be_centred():
    batch = batch_of(REWARDS)
    plain, centred = (
        advantages_of(RiskAdvantage(risk_centre=centre, bundle_order="given"), batch) for centre in (False, True)
    )
    np.testing.assert_allclose(centred, plain - plain.mean(), atol=1e-6)
    assert np.all(plain <= 0)


@pytest.mark.slow
def test_all_wrong_groups_are_pushed_away():
    _, batch = responses(rewards=np.zeros(8))
    objective = objectives.make("riskpo", bundle_size=1)
    state = (state_at(0.3, 0.9),)
    _, found = objective.prepare(state, batch)
    np.testing.assert_allclose(found.advantages[:, 0], np.full(8, -1.5 * 0.3 - 0.6), rtol=1e-6)
    wanted = objective.sampling(state).teaches
    assert np.all(wanted(batch))
