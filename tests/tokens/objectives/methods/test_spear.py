"""SPEAR and Dr.BoT: the sheet's schedules and covariances, what filters leave out, and what replayed responses push."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_batches import littered, responses
from token_cases import evaluate, prepare, slopes, token_losses

from maxent_rl.errors import InvalidSettingError, UnknownNameError
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives.methods.spear import (
    FaultyFilter,
    SelfImitation,
    SpreadFilter,
    ToolCallReward,
    repetitive,
    risen,
)


def of_rewards(rewards, group_size, **fields):
    """A batch of responses of one token, [group, response] rewards."""
    values = np.asarray(rewards, np.float32).ravel()
    shape = (values.size, 1)
    return TokenBatch(-np.ones(shape, np.float32), np.ones(shape, bool), values, group_size=group_size, **fields)


def test_schedules_are_each_others_complement():
    """S = 200: mu(50) and mu(100); S = 300: gam(1), gam(75), gam(150); the ends; and beyond them."""
    mu, gam = jax.jit(ToolCallReward().weight), jax.jit(SelfImitation().weight)
    found = [mu(jnp.float32(s)) for s in (0, 50, 100, 200, 201)]
    np.testing.assert_allclose(found, [1, 0.853553, 0.5, 0, 0], atol=1e-6)
    found = [gam(jnp.float32(s)) for s in (1, 75, 150, 300, 999)]
    np.testing.assert_allclose(found, [2.74153e-5, 0.146447, 0.5, 1, 1], rtol=1e-5)
    np.testing.assert_allclose(found[0], (1 - np.cos(np.pi / 300)) / 2, rtol=1e-5)
    steps = np.arange(1, 260)
    both = ToolCallReward().weight(steps) + SelfImitation(replay_rise=200.0).weight(steps)
    np.testing.assert_allclose(both, 1, atol=1e-6)
    assert ToolCallReward("constant").weight(7) == 1 and risen(1, 0.0) == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1.2, 0.1, 0, 2]),  # 0.1 for each call, 1 at most, for right answers and wrong ones alike
        ({"call_form": "answers"}, [2, 0.1, 0, 2]),  # of right ones only that there is a call
        ({"call_form": "turns"}, [1.3, 0.2, 0.1, 1.1]),
        ({"call_reward": 0.5, "call_most": 0.75}, [1.75, 0.5, 0, 1.75]),
    ],
)
def test_tool_calls_are_paid_for(settings, expected):
    """Two groups of two: right with two calls, wrong with one; wrong without any, right with twelve."""
    turns = np.array([[0, 1, 2], [0, 0, 1], [0, 0, 0], [0, 0, 0]])
    mask = np.ones((4, 3), bool)
    batch = TokenBatch(
        -np.ones((4, 3), np.float32), mask, np.array([1.0, 0, 0, 1]), 2, calls=np.array([2, 1, 0, 12]), turns=turns
    )
    stage = ToolCallReward("constant", **settings)
    state, found = stage.prepare(stage.init(jax.random.key(0)), batch)
    np.testing.assert_allclose(found.rewards, expected, rtol=1e-6)
    assert int(state) == 1


def test_the_payment_fades_from_iteration_to_iteration():
    stage, paid = ToolCallReward(call_iterations=4.0), []
    state = stage.init(jax.random.key(0))
    for _ in range(5):
        state, batch = stage.prepare(state, of_rewards([[0, 0]], 2, calls=np.array([10, 0])))
        paid.append(float(batch.rewards[0]))
        assert batch.rewards[1] == 0
    np.testing.assert_allclose(paid, [0.853553, 0.5, 0.146447, 0, 0], atol=1e-6)


def test_the_groups_that_differ_most_are_kept():
    """Of five groups floor(3.75); of two with the same rewards in another order, which differ alike, the first one."""
    rewards = [[0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0], [0, 0.5, 0.5, 1]]
    run = jax.jit(lambda stage, batch: stage.prepare((), batch)[1])
    for share, expected in ((0.75, [0, 2, 3]), (0.4, [0, 2]), (0.0, [2]), (1.0, [0, 1, 2, 3, 4])):
        found = run(SpreadFilter(share), jax.tree.map(jnp.asarray, of_rewards(rewards, 4)))
        kept = np.asarray(found.mask).reshape(5, 4)
        assert np.flatnonzero(kept.all(axis=1)).tolist() == expected
        np.testing.assert_array_equal(found.dropped, ~kept.ravel())


def test_faulty_responses_are_masked_and_still_counted_in_their_groups():
    tokens = np.array([[2, 2, 2, 2], [2, 3, 2, 3], [2, 3, 4, 5], [2, 2, 2, 3]])
    batch = TokenBatch(
        -np.ones((4, 4), np.float32), np.array([[1] * 4, [1] * 4, [1] * 4, [1, 1, 0, 0]], bool),
        np.array([1.0, 0, 0, 1]), 4, tokens=tokens, answers=np.array([3, 3, -1, 3]),
        truncated=np.array([False, True, False, False]),
    )  # fmt: skip
    objective = objectives.make("dr_bot", repeated_tokens=1, repeated_times=3, kept_groups=1.0)
    _, found = prepare(objective, objective.init(), batch)
    assert np.asarray(found.mask).any(axis=1).tolist() == [False, False, False, True]
    np.testing.assert_allclose(found.advantages[3], [0.5, 0.5, 0, 0])  # 1 less the mean of all four


@pytest.mark.slow
def test_repetitions_are_those_that_counting_finds():
    """Overlapping ones count, and none goes over what is masked."""
    draw = np.random.default_rng(0)
    tokens, mask = draw.integers(0, 2, (60, 14)), draw.random((60, 14)) < 0.9

    def counted(row, there, length, times):
        whole = [tuple(row[i : i + length]) for i in range(14 - length + 1) if there[i : i + length].all()]
        return any(whole.count(each) >= times for each in set(whole))

    for length, times in ((1, 9), (3, 3), (14, 1)):
        expected = [counted(row, there, length, times) for row, there in zip(tokens, mask, strict=True)]
        found = repetitive(jnp.asarray(tokens), jnp.asarray(mask), length, times)
        np.testing.assert_array_equal(found, expected)
    assert not repetitive(jnp.zeros((1, 28), jnp.int32), jnp.ones((1, 28), bool), 20, 10)
    assert repetitive(jnp.zeros((1, 29), jnp.int32), jnp.ones((1, 29), bool), 20, 10)


def replayed(**settings):
    """What learns from replayed responses, with an aggregate that shows what it averages."""
    whole = objectives.make("spear", **settings)
    found = whole.replayed(whole.init())
    assert found is not None
    return found


SHEET = jnp.array([[-0.1, -2, -0.5], [-0.2, -3, -1]])


@pytest.mark.slow
def test_replayed_responses_have_bounds_of_their_own():
    """The sheet's six tokens: of rows with advantages of 1 and -1 the first and the fifth are candidates, one is left out."""
    batch = TokenBatch(SHEET, np.ones((2, 3), bool), np.zeros(2), advantages=np.array([1.0, -1.0]))
    objective, found = replayed(), {}
    for seed in range(80):
        state = objective.init(jax.random.key(seed))
        dropped = np.argwhere(token_losses(objective, TokenOutputs(SHEET), batch, state) == 0)
        found[tuple(dropped[0])] = found.get(tuple(dropped[0]), 0) + 1
        assert len(dropped) == 1
    assert found.keys() == {(0, 0), (1, 1)}
    assert 20 < found[0, 0] < 60  # of 80 draws of 1/2: deviation 4.5
    off = replayed(replay_covariance_low=2.0, replay_covariance_high=2.0)
    np.testing.assert_allclose(token_losses(off, TokenOutputs(SHEET), batch), [[-1] * 3, [1] * 3])
    _, aux = evaluate(objective, objective.init(), TokenOutputs(SHEET), batch)
    np.testing.assert_allclose(aux.metrics["covariance/mean"] * 6, 1.6, atol=1e-5)  # the sum of the six


@pytest.mark.slow
def test_wins_are_imitated_and_no_further_than_the_clip():
    """Kept tokens of positive advantage are pushed up, those beyond 1.28 of their old probability are not."""
    outputs, batch = responses()
    batch = dataclasses.replace(batch, advantages=jnp.abs(batch.rewards) + 0.1)
    objective = replayed(replay_covariance_low=0.5, replay_covariance_high=0.5)
    slope = np.asarray(slopes(objective, objective.init(), outputs, batch).logp)
    ratio, mask = np.exp(np.asarray(outputs.logp - batch.logp_old)), np.asarray(batch.mask)
    assert (slope[mask] <= 0).all() and (slope[mask & (ratio < 1.28)] < 0).all()
    assert (mask & (ratio > 1.28)).sum() > 2 and (slope[mask & (ratio > 1.28)] == 0).all()
    waste = littered(outputs, batch)
    np.testing.assert_array_equal(slopes(objective, objective.init(), *waste).logp, slope)


def test_without_calls_that_pay_and_responses_that_come_again_it_is_dr_bot():
    """Stage by stage, but for the one that wants a replay of weight 0."""
    spear = objectives.make("spear", call_schedule="none", replay_weight=0.0, clip_share=0.001)
    dr_bot = objectives.make("dr_bot", clip_share=0.001)
    assert [stage for stage in spear.stages if not isinstance(stage, SelfImitation)] == list(dr_bot.stages)
    assert {"ClipCov", "SpreadFilter"} <= {type(stage).__name__ for stage in dr_bot.stages}
    assert spear.sampling(spear.init()).replay.weight == 0 and dr_bot.replayed(dr_bot.init()) is None


def test_any_objective_may_want_replay():
    grpo = objectives.make("grpo", replay_weight=0.5, replay_size=8, clip_high=0.3)
    wish = grpo.sampling(grpo.init()).replay
    assert wish.size == 8 and not wish.calls and not wish.consecutive
    kinds = [type(stage).__name__ for stage in grpo.replayed(grpo.init()).stages]
    assert kinds == ["Clipped", "ClipCov", "Aggregate"] and grpo.replayed(grpo.init()).stages[0].clip_high == 0.3


def test_settings_are_bounded_and_named():
    for settings in ({"replay_age": 11}, {"replay_decay": 0.0}, {"replay_weight": -1.0}):
        with pytest.raises(InvalidSettingError, match="must be"):
            objectives.make("spear", **settings)
    with pytest.raises(UnknownNameError, match="Did you mean"):
        objectives.make("spear", replay_order="jiont")
    with pytest.raises(UnknownNameError, match="replay_age"):
        objectives.make("spear", tolerate_steps=3)


def test_recalibrated_advantages_of_the_sheet():
    """P50 of six means is 0.3125; of six rewards the first two stay, one that is the median is worth 0."""
    wish = objectives.make("spear").sampling(objectives.make("spear").init()).replay
    median = jnp.median(jnp.array([0.25, 0.5, 0.125, 0.75, 0.375, -0.25]))
    rewards = jnp.array([1, 1.3, 0.2, -1, 0.3125, 0.31])
    found = wish.recalibrated(rewards, rewards, median, jnp.zeros(()))
    np.testing.assert_allclose(found, [0.6875, 0.9875, -0.1125, -1.3125, 0, -0.0025], atol=1e-6)
    assert wish.worth(found).tolist() == [True, True, False, False, False, False]
    zeros = dataclasses.replace(wish, zeros=True)
    assert zeros.worth(found).tolist() == [True, True, False, False, True, False]
    scaled = dataclasses.replace(wish, recalibration="median-deviation")
    np.testing.assert_allclose(
        scaled.recalibrated(rewards, rewards, median, jnp.float32(0.5)), found / 0.500001, rtol=1e-6
    )
    decayed = dataclasses.replace(wish, recalibration="decay", decay=0.5)
    np.testing.assert_allclose(decayed.recalibrated(rewards, rewards, median, median), rewards / 2)
    assert decayed.counted(rewards, median).all() and decayed.worth(-rewards).all()
    shifted = wish.recalibrated(rewards + 2, rewards, median + 2, median)
    np.testing.assert_allclose(shifted, found, atol=1e-6)
    higher = [int(wish.worth(wish.recalibrated(rewards, rewards, median + more, median)).sum()) for more in (0, 0.7, 2)]
    assert all(one >= other for one, other in itertools.pairwise(higher)) and higher[-1] == 0
    assert not wish.worth(wish.recalibrated(jnp.array([0.0, 1.0]), rewards[:2], jnp.float32(1), median)).any()


def test_filters_may_be_switched_off():
    assert not FaultyFilter(mask_unanswered=False, mask_repetitive=False).active
    assert FaultyFilter(mask_unanswered=False).inputs == ("tokens",)
    assert ToolCallReward("none").active is False and ToolCallReward().inputs == ("calls",)
