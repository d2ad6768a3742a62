"""ARES: windows of high entropy, what their number is rewarded with, and how the divergence is controlled."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_batches import COLUMNS, GROUP, ROWS, responses
from token_cases import evaluate

from maxent_rl.errors import MissingInputError
from maxent_rl.tokens import TokenBatch, objectives
from maxent_rl.tokens.objectives import Aggregate, AresKL, AresReward, Clipped, KLPenalty, chain
from maxent_rl.tokens.objectives.methods.ares import (
    EASY,
    HARD,
    MEDIUM,
    AresControl,
    AresCounts,
    buckets,
    shaped_reward,
)

ENTROPY = np.array([[0.1, 0.2, 1.5, 1.2, 0.9, 0.1, 0.1, 2.0, 0.1, 0.1]], np.float32)
OUTPUTS, BATCH = responses()


def counts(threshold=0.0, begun=False, target=0.0, known=False, strength=0.5):
    three = jnp.ones(3)
    return AresCounts(jnp.float32(threshold), jnp.asarray(begun), target * three, (known * three) > 0, strength * three)


def control(weight, **fields):
    zeros = jnp.zeros(3)
    start = {"mean": zeros, "known": zeros > 0, "error": zeros, "steps": jnp.zeros((), jnp.int32)}
    return AresControl(jnp.full(3, weight), **(start | fields))


def windows_of(stage, entropy, state=None):
    batch = TokenBatch(
        jnp.zeros(entropy.shape),
        jnp.ones(entropy.shape, bool),
        jnp.zeros(len(entropy)),
        entropy_old=jnp.asarray(entropy),
    )
    found, after = jax.jit(lambda state: stage.windows(state, batch, jnp.ones(len(entropy), bool)))(state or counts())
    return np.asarray(found), after


@pytest.mark.slow
def test_the_reward_of_the_paper():
    """Example A: the target is that of the batch before, the weight 0.1."""
    count, right = jnp.array([4.0, 6, 10, 12]), jnp.array([True, False, False, True])
    for bucket, expected in ((EASY, [1, 0, -0.3, 1]), (MEDIUM, [1, -0.1, -0.3, 1]), (HARD, [1, -0.1, 0, 1])):
        after, found = AresReward().lagged(counts(target=7.0, known=True), count, right, jnp.full(4, bucket))
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert after.target[bucket] == 8.0
    _, found = AresReward().lagged(counts(), count, right, jnp.full(4, EASY))
    np.testing.assert_array_equal(found, [1, 0, 0, 1])  # nothing is known yet
    _, found = AresReward().lagged(counts(target=2.0, known=True), jnp.full(4, 5.0), right, jnp.full(4, EASY))
    np.testing.assert_array_equal(found, [1, 0, 0, 1])  # equal counts: no weight of a million


EXAMPLE_B = [
    (EASY, True, [0, 0, -0.214286]),
    (EASY, False, [0.15, 0.15, 0.233190]),
    (MEDIUM, True, [-0.181818, 0, -0.034091]),
    (MEDIUM, False, [0.2, 0.2, 0.258263]),
    (HARD, True, [-0.031250, 0.457525, 0.554485]),
    (HARD, False, [0.3, 0.3, 0.324942]),
]


@pytest.mark.parametrize(("bucket", "right", "added"), EXAMPLE_B)
def test_the_reward_of_the_released_code(bucket, right, added):
    three = jnp.ones(3)
    found = shaped_reward(jnp.array([4.0, 10, 14]), jnp.full(3, right), jnp.full(3, bucket), 10 * three, 0.5 * three)
    np.testing.assert_allclose(found - right, added, atol=1e-5)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("bucket", [EASY, MEDIUM, HARD])
def test_what_the_released_reward_promises(bucket, right):
    count = jnp.arange(0.0, 41.0)
    every = jnp.ones(41)
    added = np.asarray(shaped_reward(count, jnp.full(41, right), jnp.full(41, bucket), 20 * every, 0.5 * every)) - right
    cap = 0.6 if bucket == HARD else 0.5
    assert np.all(np.abs(added) <= cap + 1e-6)
    change, beyond = np.diff(added), np.asarray(count) - 20
    if not right:
        assert np.all(change >= 0)
    elif bucket == EASY:
        assert np.all(change <= 0)
    elif bucket == MEDIUM:
        np.testing.assert_allclose(added, added[::-1], atol=1e-6)
    else:
        assert np.all(change[beyond[:-1] >= -7] >= 0) and added[12] <= 0 < 0.29 < added[13]


def test_windows_of_the_example():
    """Example C: no window of the paper's passes the quantile of single tokens; one of the released code's does."""
    found, _ = windows_of(AresReward(), ENTROPY)
    assert not found.any()
    found, after = windows_of(AresReward(ares_threshold="windows"), ENTROPY)
    assert found[0].tolist() == [True] + [False] * 9
    np.testing.assert_allclose(after.threshold, 0.938750, atol=1e-5)


def test_the_threshold_follows_slowly():
    stage = AresReward(ares_threshold="windows")
    found, after = windows_of(stage, ENTROPY, counts(threshold=0.9, begun=True))
    assert found[0].tolist() == [True, True] + [False] * 8  # counts are of the threshold before
    np.testing.assert_allclose(after.threshold, 0.99 * 0.9 + 0.01 * 0.93875, atol=1e-6)
    several = np.concatenate([ENTROPY, 2 * ENTROPY, 9 * ENTROPY])
    np.testing.assert_allclose(windows_of(stage, several)[1].threshold, 2 * 0.93875, atol=1e-5)


def test_equal_entropies_all_count():
    found, _ = windows_of(AresReward(), np.full((2, 10), 0.5, np.float32))
    np.testing.assert_array_equal(found, np.broadcast_to(np.arange(10) < 7, (2, 10)))


def test_difficulty_is_decided_in_whole_numbers():
    right = jnp.arange(9)
    found = buckets(right, jnp.full(9, 8), jnp.ones(9, bool))
    np.testing.assert_array_equal(found, [HARD] * 3 + [MEDIUM] * 3 + [EASY] * 3)
    np.testing.assert_array_equal(buckets(jnp.array([1, 2]), jnp.array([3, 3]), jnp.ones(2, bool)), [MEDIUM, EASY])


@pytest.mark.slow
def test_targets_and_strengths_of_the_released_code():
    """Targets are of this batch, rounded; strengths move by the rounding error alone."""
    batch = dataclasses.replace(BATCH, rewards=jnp.array([1.0, 1, 1, 0, 0, 0, 0, 0]))
    stage = AresReward("huber", ares_window=1)
    entropy = jnp.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) * 0.1
    after, found = jax.jit(stage.prepare)(counts(), dataclasses.replace(batch, entropy_old=entropy))
    window = np.asarray(found.statistics["ares_window"])
    means = window.sum(axis=1).reshape(2, GROUP).mean(axis=1)
    np.testing.assert_allclose(after.target[jnp.array([EASY, HARD])], np.round(means))
    moved = 0.5 + 0.05 * np.array([1, -1]) * (means - np.round(means))
    np.testing.assert_allclose(after.strength[jnp.array([EASY, HARD])], moved, atol=1e-6)
    assert after.strength[MEDIUM] == 0.5 and not after.known[MEDIUM]
    np.testing.assert_array_equal(found.statistics["ares_bucket"][:, 0], np.repeat([EASY, HARD], GROUP))


def test_controllers_of_the_example():
    """Example D."""
    three, there = jnp.ones(3), jnp.ones(3, bool)
    paper = AresKL(ares_kl_target=0.02).stepped(control(0.01), 0.03 * three, there)
    np.testing.assert_allclose(paper.weight, 0.0105, atol=1e-7)
    released = AresKL("average", ares_kl_start=1.0, ares_kl_most=100.0, ares_kl_every=1)
    found = released.averaged(control(1.0), 0.05 * three, there)
    np.testing.assert_allclose(found.error, 0.12, atol=1e-6)
    np.testing.assert_allclose(found.weight, 1.006018, atol=1e-5)
    seldom = released.replace(ares_kl_every=100).averaged(control(1.0), 0.05 * three, there)
    assert np.all(seldom.weight == 1) and seldom.steps == 1
    stays = released.averaged(control(1.0), 0.01 * three, there)
    np.testing.assert_array_equal(stays.weight, three)
    nothing = released.averaged(control(1.0), 0.05 * three, ~there)
    assert np.all(nothing.weight == 1) and not nothing.known.any()


@pytest.mark.slow
@pytest.mark.parametrize("relaxed", ["start", "window"])
def test_divergence_is_held_less_in_windows(relaxed):
    """The penalty of each token is the weight of its prompt's difficulty, halved in windows."""
    window = jnp.zeros((ROWS, COLUMNS)).at[0, 1].set(1.0)
    bucket = jnp.repeat(jnp.array([0.0, 2.0]), GROUP)[:, None] * jnp.ones(COLUMNS)
    statistics = {"ares_window": window, "ares_bucket": bucket}
    batch = dataclasses.replace(BATCH, statistics=statistics, advantages=jnp.zeros((ROWS, COLUMNS)))
    stage = AresKL("none", ares_relaxed=relaxed, ares_kl_width=3, ares_kl_start=0.25)
    objective = chain(
        stage, Clipped(), KLPenalty(kl_weight=2.0), Aggregate("seq-mean-token-sum-norm", aggregation_length=1.0)
    )
    loss, _ = evaluate(objective, objective.init(), OUTPUTS, batch)
    difference = np.asarray(batch.logp_ref - OUTPUTS.logp, np.float64)
    weight = np.full((ROWS, COLUMNS), 0.5)
    weight[0, 1 : 2 if relaxed == "start" else 4] = 0.25
    expected = np.sum(np.where(batch.mask, weight * (np.expm1(difference) - difference), 0))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_windows_must_have_been_found():
    objective = chain(AresKL(), Clipped(), KLPenalty(), Aggregate())
    with pytest.raises(MissingInputError, match="AresKL needs the windows and difficulties that AresReward finds"):
        objective(objective.init(), OUTPUTS, dataclasses.replace(BATCH, advantages=jnp.zeros(ROWS)))


@pytest.mark.slow
def test_windows_may_be_those_of_reasoning_tokens_alone():
    stage = AresReward(ares_window=1, ares_quantile=0.0, reasoning_tokens=(2, 4))
    assert set(stage.statistics(counts())) == {"ares_likeliest"}
    objective = chain(stage, Clipped(), Aggregate())
    _, found = objective.prepare(objective.init(), BATCH)
    best = np.isin(np.argmax(BATCH.logits_old, axis=-1), (2, 4))
    every = chain(AresReward(ares_window=1, ares_quantile=0.0), Clipped(), Aggregate())
    _, unfiltered = every.prepare(every.init(), BATCH)
    expected = np.asarray(unfiltered.statistics["ares_window"]) * best
    np.testing.assert_array_equal(found.statistics["ares_window"], expected)


@pytest.mark.slow
def test_without_what_it_adds_it_is_grpo_with_a_divergence():
    settings = {"ares_reward": "none", "ares_control": "none", "ares_relaxation": 1.0, "ares_kl_start": 0.1}
    objective = objectives.make("ares", drop_uniform_groups=False, **settings)
    plain = objectives.make("grpo", kl_weight=0.1, clip_high=0.3, dual_clip=3.0, aggregation="seq-mean-token-mean")
    found, expected = (evaluate(one, one.init(), OUTPUTS, BATCH)[0] for one in (objective, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
