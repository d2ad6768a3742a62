"""The common family of objectives: the sheet's examples 9 to 11, its checks as properties, and closed forms in NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close, rounding
from token_batches import COLUMNS, GROUP, ROWS, aux_of, loss_of, prepare, responses, slope_of

from maxent_rl import losses
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives

LOGP = TokenOutputs(jnp.array([[-1.0, -0.5, -2.0], [-0.7, jnp.nan, 5.0]]))
EXAMPLE = TokenBatch(
    logp_old=jnp.array([[-1.2, -0.5, -1.6], [-1.1, jnp.inf, jnp.nan]]),
    mask=jnp.array([[1, 1, 1], [1, 0, 0]]),
    rewards=jnp.zeros(2),
    advantages=jnp.array([1.0, -1.0]),
)
DUAL = {"dual_clip": 3.0}
VERL_CISPO = {"ratio_low": 0.8, "ratio_high": 1.2}


def ragged(advantage, mask=None):
    """Advantages [N] given to responses."""
    outputs, batch = responses()
    return outputs, dataclasses.replace(
        batch, advantages=jnp.asarray(advantage), mask=batch.mask if mask is None else mask
    )


def advantages_of(objective, rewards):
    """[N] of responses with these rewards."""
    _, batch = responses(lengths=[COLUMNS] * ROWS)
    return prepare(objective, dataclasses.replace(batch, rewards=jnp.asarray(rewards))).advantages[:, 0]


def on_policy(batch):
    return TokenOutputs(batch.logp_old, batch.entropy_old)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("grpo", DUAL, -0.344624),
        ("grpo", DUAL | {"aggregation": "seq-mean-token-mean"}, 0.267526),
        ("grpo", DUAL | {"aggregation": "seq-mean-token-sum"}, -0.689248),
        ("grpo", DUAL | {"aggregation": "seq-mean-token-sum-norm"}, -0.459498),
        ("grpo", DUAL | {"clip_low": 0.2, "clip_high": 0.28}, -0.349975),
        ("grpo_trl", {}, 0.267526),
        ("dr_grpo", {}, -0.229749),
        ("dapo", {"drop_uniform_groups": False}, -0.349975),
        ("gspo", {}, 0.278159),
        ("cispo", {}, 0.504441),
        ("cispo", VERL_CISPO, 0.615000),
    ],
)
def test_worked_example_10(name, settings, expected):
    loss = loss_of(objectives.make(name, **settings), LOGP, EXAMPLE)
    assert_close(loss, expected, scale=1.0)  # of the tokens' losses, which cancel


def test_worked_example_10_ratios():
    for name, low, high in (("grpo", 0.670320, 1.491825), ("gspo", 0.935507, 1.491825)):
        metrics = aux_of(objectives.make(name), LOGP, EXAMPLE).metrics
        np.testing.assert_allclose([metrics["policy/ratio_min"], metrics["policy/ratio_max"]], [low, high], rtol=1e-5)


@pytest.mark.slow
def test_worked_example_11():
    outputs = TokenOutputs(jnp.log(jnp.array([[5.0]])))
    batch = TokenBatch(jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.zeros(1), advantages=-jnp.ones(1))
    objective = objectives.make("grpo", dual_clip=3.0)
    np.testing.assert_allclose(loss_of(objective, outputs, batch), 3.0, rtol=1e-6)
    assert slope_of(objective, outputs, batch)[0, 0] == 0
    assert aux_of(objective, outputs, batch).metrics["policy/clip_fraction_dual"] == 1


def test_worked_example_9():
    rewards = jnp.array([1.0, 0, 0, 1, 1, 1, 1, 0])
    batch = TokenBatch(jnp.zeros((8, 1)), jnp.ones((8, 1)), rewards, group_size=4)
    found = prepare(objectives.make("reinforce_pp", group_baseline=True), batch)
    np.testing.assert_allclose(found.advantages[:, 0], [1, -1, -1, 1, 0.5, 0.5, 0.5, -1.5], atol=1e-5)


@pytest.mark.slow
@given(seed=st.integers(0, 50))
def test_check_1_on_policy_all_have_the_gradient_of_the_log_probability(seed):
    advantage = np.random.default_rng(seed).normal(size=ROWS)
    _, batch = ragged(advantage)
    outputs = on_policy(batch)
    plain = slope_of(objectives.make("gpg"), outputs, batch)
    for name in ("ppo", "grpo", "dapo", "cispo", "reinforce"):
        settings = {"drop_uniform_groups": False} if name == "dapo" else {}
        assert_close(slope_of(objectives.make(name, **settings), outputs, batch), plain)
    by_row = slope_of(objectives.make("gpg", aggregation="seq-mean-token-mean"), outputs, batch)
    for name in ("gspo", "grpo_trl", "gmpo", "sapo"):
        assert_close(slope_of(objectives.make(name), outputs, batch), by_row)
    mean = losses.masked_mean(np.broadcast_to(advantage[:, None], (ROWS, COLUMNS)), batch.mask)
    np.testing.assert_allclose(loss_of(objectives.make("grpo"), outputs, batch), -mean, atol=1e-5)


@pytest.mark.slow
@given(seed=st.integers(0, 50))
def test_check_2_with_one_token_in_each_row_aggregations_and_the_sequence_ratio_make_no_difference(seed):
    advantage = np.random.default_rng(seed).normal(size=ROWS)
    outputs, batch = ragged(advantage, mask=jnp.zeros((ROWS, COLUMNS), bool).at[:, 2].set(True))
    first, size = loss_of(objectives.make("grpo"), outputs, batch), np.abs(advantage).mean()
    for mode in ("seq-mean-token-mean", "seq-mean-token-sum"):
        assert_close(loss_of(objectives.make("grpo", aggregation=mode), outputs, batch), first, scale=size)
    gspo = objectives.make("gspo", clip_low=0.2, clip_high=0.2)
    assert_close(loss_of(gspo, outputs, batch), first, scale=size)


@pytest.mark.slow
@given(seed=st.integers(0, 50), shift=st.integers(-8, 8), factor=st.sampled_from([0.5, 4.0]))
def test_checks_3_to_5_of_advantages(seed, shift, factor):
    draw = np.random.default_rng(seed)
    rewards, moved = draw.integers(0, 8, ROWS).astype(np.float32), np.repeat([shift, -2.0 * shift], GROUP)
    found = {}
    for name in ("grpo", "grpo_trl", "dr_grpo", "rloo", "gspo", "gpg"):
        advantages = functools.partial(advantages_of, objectives.make(name))
        found[name] = advantages(rewards)
        np.testing.assert_allclose(found[name].reshape(2, GROUP).sum(-1), 0.0, atol=2e-5)
        if name != "gpg":  # it counts the rewards that are 0
            np.testing.assert_allclose(advantages(rewards + moved), found[name], atol=1e-4)
        scaled = found[name] if name in ("grpo", "grpo_trl", "gspo") else factor * found[name]
        np.testing.assert_allclose(advantages(factor * rewards), scaled, rtol=1e-3, atol=1e-5)
    assert_close(found["rloo"], GROUP / (GROUP - 1) * found["dr_grpo"], rounding(8), scale=8.0)  # of the rewards
    squares = np.square(found["grpo"]).reshape(2, GROUP).sum(-1)
    varied = rewards.reshape(2, GROUP).std(-1) > 0
    np.testing.assert_allclose(squares, (GROUP - 1) * varied, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "ratio", "advantage", "cut"),
    [
        ("grpo", 1.21, 1.0, True), ("grpo", 1.19, 1.0, False), ("grpo", 1.21, -1.0, False),
        ("grpo", 0.79, -1.0, True), ("grpo", 0.81, -1.0, False), ("grpo", 0.79, 1.0, False),
        ("dapo", 1.27, 1.0, False), ("dapo", 1.29, 1.0, True),
        ("gspo", 1.0005, 1.0, True), ("gspo", 1.0003, 1.0, False), ("gspo", 0.9996, -1.0, True),
        ("gmpo", 1.50, 1.0, True), ("gmpo", 1.48, 1.0, False), ("gmpo", 0.66, -1.0, True), ("gmpo", 0.68, -1.0, False),
        ("cispo", 6.0, 1.0, False), ("cispo", 0.01, -1.0, False),
    ],
)  # fmt: skip
def test_check_6_beyond_the_clip_there_is_no_gradient(name, ratio, advantage, cut):
    """And cispo, which clips a weight, has one everywhere."""
    batch = TokenBatch(jnp.zeros((1, 2)), jnp.ones((1, 2)), jnp.zeros(1), advantages=jnp.array([advantage]))
    outputs = TokenOutputs(jnp.full((1, 2), jnp.log(ratio)))
    objective = objectives.make(name, **({"drop_uniform_groups": False} if name == "dapo" else {}))
    slope = slope_of(objective, outputs, batch)
    assert np.all((slope == 0) == cut)
    metrics = aux_of(objective, outputs, batch).metrics
    if name != "cispo":
        assert metrics["policy/clip_fraction_high"] == (cut and advantage > 0)
        assert metrics["policy/clip_fraction_low"] == (cut and advantage < 0)


def test_gspo_by_token_is_gspo_by_sequence():
    """Value and gradient of the sequence form: mean over rows of max(-A s, -A clip(s)), s from the mean log-ratio."""
    advantage = jnp.array([1.0, -1.0, 0.5, -2.0, 1.0, -1.0, 2.0, -0.5])
    outputs, batch = ragged(advantage)

    def by_sequence(logp):
        difference = jnp.where(batch.mask, logp - batch.logp_old, 0.0)
        ratio = jnp.exp(difference.sum(-1) / batch.mask.sum(-1))
        return jnp.mean(jnp.maximum(-advantage * ratio, -advantage * jnp.clip(ratio, 0.9, 1.15)))

    objective = objectives.make("gspo", clip_low=0.1, clip_high=0.15)
    expected, slope = jax.value_and_grad(by_sequence)(outputs.logp)
    assert_close(loss_of(objective, outputs, batch), expected, scale=1.0)  # of the rows' losses, which cancel
    assert_close(slope_of(objective, outputs, batch), slope)
    assert np.any(np.all(slope == 0, axis=-1)) and np.any(slope != 0)


@pytest.mark.slow
def test_rloo_takes_a_response_as_one_action():
    """TRL's: the product of the tokens' ratios, clipped as a whole; every row weighs the same."""
    old = jnp.full((2, 3), -1.0)
    outputs = TokenOutputs(old + jnp.array([[0.1, 0.1, 0.1], [-0.05, 0.02, 0.1]]))
    batch = TokenBatch(old, jnp.ones((2, 3)), jnp.array([1.0, 0.0]), group_size=2)
    np.testing.assert_allclose(loss_of(objectives.make("rloo"), outputs, batch), -0.063746, atol=1e-5)
    by_token = objectives.make("rloo", sequence_ratio=False, aggregation="token-mean")  # verl's
    np.testing.assert_allclose(loss_of(by_token, outputs, batch), -0.039819, atol=1e-5)

    advantage = jnp.array([1.0, -1.0, 0.5, -2.0, 1.0, -1.0, 2.0, -0.5])
    outputs, batch = ragged(advantage)

    def by_sequence(logp):
        ratio = jnp.exp(jnp.where(batch.mask, logp - batch.logp_old, 0.0).sum(-1))
        return jnp.mean(jnp.maximum(-advantage * ratio, -advantage * jnp.clip(ratio, 0.6, 1.4)))

    objective = objectives.make("rloo", clip_low=0.4, clip_high=0.4)
    expected, slope = jax.value_and_grad(by_sequence)(outputs.logp)
    assert_close(loss_of(objective, outputs, batch), expected, scale=1.0)  # of the rows' losses, which cancel
    assert_close(slope_of(objective, outputs, batch), slope)
    assert np.any(np.all(slope == 0, axis=-1)) and np.any(slope != 0)


@pytest.mark.parametrize("name", ["grpo", "gspo", "rloo", "kl_cov", "gmpo"])
def test_a_punished_response_that_has_become_far_likelier_is_pushed_back(name):
    """Ratios are cut off where they would become infinite; the gradient there was once 0, though the loss was e^20."""
    batch = TokenBatch(jnp.full((1, 2), -60.0), jnp.ones((1, 2)), jnp.zeros(1), advantages=jnp.array([-1.0]))
    slope = slope_of(objectives.make(name), TokenOutputs(jnp.full((1, 2), -1.0)), batch)
    assert np.all(slope > 1.0) and np.isfinite(slope).all()


def test_gmpo_in_numpy():
    """verl's geo_mean, row by row: exp of the mean of log-ratios, each cut at +-0.4 on the side that would gain."""
    advantage = np.array([1.0, -1.0, 0.5, -2.0, 1.0, -1.0, 2.0, -0.5])
    outputs, batch = ragged(advantage)
    difference, mask = np.asarray(outputs.logp - batch.logp_old), np.asarray(batch.mask)
    total = 0.0
    for row in range(ROWS):
        logs = difference[row, mask[row]]
        kept = np.minimum(logs, 0.4) if advantage[row] > 0 else np.maximum(logs, -0.4)
        total -= advantage[row] * np.exp(kept.mean())
    assert np.any(np.abs(difference[mask]) > 0.4)
    assert_close(loss_of(objectives.make("gmpo"), outputs, batch), total / ROWS, scale=1.0)  # of the rows' losses


def test_sapo_in_numpy():
    """TRL's: -A (4 / tau) sigmoid(tau (r - 1)), each row's mean, tau 1 where A > 0 and 1.05 elsewhere."""
    advantage = np.array([1.0, -1.0, 0.5, -2.0, 0.0, -1.0, 2.0, -0.5])
    outputs, batch = ragged(advantage)
    ratio, mask = np.exp(np.asarray(outputs.logp - batch.logp_old)), np.asarray(batch.mask)
    tau = np.where(advantage > 0, 1.0, 1.05)[:, None]
    loss = -advantage[:, None] * 4 / tau / (1 + np.exp(-tau * (ratio - 1)))
    expected = np.mean([loss[row, mask[row]].mean() for row in range(ROWS)])
    assert_close(loss_of(objectives.make("sapo"), outputs, batch), expected, scale=1.0)  # of the rows' losses


def test_cispo_keeps_the_weight_constant():
    outputs, batch = ragged(np.linspace(-1, 1, ROWS))
    objective = objectives.make("cispo", **VERL_CISPO)
    weight = np.clip(np.exp(outputs.logp - batch.logp_old), 0.8, 1.2)
    slope = -weight * np.linspace(-1, 1, ROWS)[:, None] * batch.mask / batch.mask.sum()
    assert_close(slope_of(objective, outputs, batch), slope)


def test_gpg_scales_by_the_share_of_nonzero_rewards():
    rewards = np.array([1.0, 0, 0, 0, 0, 1, 0, 0])
    outputs, batch = responses(rewards=rewards)
    advantage = 8 / 2 * (rewards - np.repeat([0.25, 0.25], 4))[:, None]
    expected = -np.sum((advantage * outputs.logp)[batch.mask]) / batch.mask.sum()
    assert_close(loss_of(objectives.make("gpg"), outputs, batch), expected, scale=1.0)  # of the tokens' losses
    halved = loss_of(objectives.make("gpg", gpg_normalizer=2.0), outputs, batch)
    assert_close(halved, expected / 2, scale=1.0)


def test_reinforce_subtracts_the_mean_or_a_number():
    outputs, batch = responses()
    for settings, baseline in (({}, batch.rewards.mean()), ({"baseline": 0.5}, 0.5), ({"baseline": 0.0}, 0.0)):
        advantage = (batch.rewards - baseline)[:, None]
        expected = -np.sum((advantage * outputs.logp)[batch.mask]) / batch.mask.sum()
        found = loss_of(objectives.make("reinforce", **settings), outputs, batch)
        assert_close(found, expected, scale=1.0)  # of the tokens' losses, which cancel


def test_cispo_divides_by_the_deviation_of_the_batch():
    _, batch = responses()
    groups = np.asarray(batch.rewards).reshape(2, GROUP)
    expected = (groups - groups.mean(-1, keepdims=True)) / (groups.std(ddof=1) + 1e-4)
    assert_close(prepare(objectives.make("cispo"), batch).advantages[:, 0], expected.ravel())


def test_reinforce_pp_with_discount_and_divergence_in_the_reward():
    """By hand: outcomes 1 and 0 on the last tokens, less 0.1 (logp_old - logp_ref) at each; a hole is passed over."""
    batch = TokenBatch(
        logp_old=jnp.array([[-1.0, -2.0, jnp.nan, -0.5], [-1.0, -1.0, 0.0, 0.0]]),
        logp_ref=jnp.array([[-2.0, -2.0, jnp.nan, -1.5], [-1.0, -3.0, 0.0, 0.0]]),
        mask=jnp.array([[1, 1, 0, 1], [1, 1, 0, 0]]),
        rewards=jnp.array([1.0, 0.0]),
    )
    objective = objectives.make("reinforce_pp", kl_reward_weight=0.1, return_discount=0.5)
    returns = np.array([-0.1 + 0.5 * (0.0 + 0.5 * 0.9), 0.5 * 0.9, 0.9, 0.5 * -0.2, -0.2])
    expected = (returns - returns.mean()) / np.sqrt(returns.var(ddof=1) + 1e-8)
    found = np.asarray(prepare(objective, batch).advantages)
    assert_close(found[np.asarray(batch.mask, bool)], expected)
    assert np.all(found[~np.asarray(batch.mask, bool)] == 0)


@pytest.mark.slow
def test_trl_counts_every_row():
    """Also one that is left out of the loss, but none without a response; the length of dr_grpo is the longest response's."""
    _, batch = ragged(np.ones(ROWS))
    batch = dataclasses.replace(batch, mask=batch.mask.at[1].set(False), truncated=jnp.arange(ROWS) == 0)
    tokens, longest = batch.mask[1:].sum(), batch.mask[0].sum()
    batch = dataclasses.replace(batch, mask=batch.mask.at[5, -1].set(False))  # the only other response as long as that
    assert longest == COLUMNS and batch.mask[1:].sum() == tokens - 1
    for settings, length in (({}, longest), ({"aggregation_length": 20}, 20)):
        found = loss_of(objectives.make("dr_grpo", mask_truncated=True, **settings), on_policy(batch), batch)
        np.testing.assert_allclose(found, -(tokens - 1) / ((ROWS - 1) * length), rtol=1e-6)
    found = loss_of(objectives.make("grpo_trl", mask_truncated=True), on_policy(batch), batch)
    np.testing.assert_allclose(found, -6 / 7, rtol=1e-6)
