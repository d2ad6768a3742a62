"""Correction of samplers: weights by hand, exact expectations over all responses of a small policy, rejection, metrics."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl.errors import InvalidSettingError, MissingInputError, UnknownNameError
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives import SAMPLER_CORRECTIONS, SamplerCorrection
from maxent_rl.tokens.objectives.sampler import mismatch_metrics, sampler_ratio

NATS = np.log([[2.0, 0.25, 8.0], [0.5, 4.0, 1.0]])  # by how much the policy's tokens are likelier; the last is masked
MASK = jnp.array([[True, True, True], [True, True, False]])


def batch_of(apart=NATS, **fields):
    old = jnp.full(np.shape(apart), -1.5, jnp.float32)
    fields = {"mask": MASK, "rewards": jnp.array([1.0, 0.0]), "group_size": 2} | fields
    return TokenBatch(old, logp_drawn=old - jnp.asarray(apart, jnp.float32), **fields)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("token", [[2.0, 0.25, 8.0], [0.5, 4.0, 1.0]]),
        ("sequence", [[4.0] * 3, [2.0] * 3]),
        ("geometric", [[4.0 ** (1 / 3)] * 3, [2.0**0.5] * 3]),
    ],
)
def test_ratios_by_hand(level, expected):
    np.testing.assert_allclose(sampler_ratio(batch_of(), MASK, level), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tis", [[2.0, 0.25, 2.0], [0.5, 2.0]]),
        ("sequence_tis", [[2.0] * 3, [2.0] * 2]),
        ("mis", [[2.0, 0.25, 0.0], [0.5, 0.0]]),
        ("sequence_mis", [[0.0] * 3, [2.0] * 2]),
        ("icepop", [[2.0, 0.0, 0.0], [0.5, 4.0]]),
    ],
)
def test_weights_of_named_corrections(name, expected):
    """The gradient of each token is the uncorrected one times its weight; the mean still counts every token."""
    batch, outputs = batch_of(), TokenOutputs(jnp.full((2, 3), -1.5))

    def slope(**settings):
        objective = objectives.make("grpo", **settings)
        return jax.grad(lambda logp: objective((), TokenOutputs(logp), batch)[0])(outputs.logp)

    weights = np.asarray(slope(**SAMPLER_CORRECTIONS[name]) / slope())
    np.testing.assert_allclose(weights[np.asarray(MASK)], [*expected[0], *expected[1]], rtol=1e-4)


LOGITS = jnp.array([[0.3, -0.8, 0.5], [1.0, 0.2, -0.7]])  # of the first token, and of the second whatever the first
RESPONSES = np.array(list(itertools.product(range(3), repeat=2)))
REWARDS = jnp.array([1.0, -2.0, 0.5, 3.0, 0.0, -1.0, 2.0, 0.3, -0.4])


def by_token(logits):
    """[9, 2] log-probabilities of all responses' tokens."""
    return jnp.stack([jax.nn.log_softmax(logits[place])[RESPONSES[:, place]] for place in range(2)], axis=-1)


def expected_gradient(temperature, **settings):
    """The objective's gradient, expected over what a sampler at some temperature draws, by the sum over all responses."""
    objective = objectives.make("reinforce", **settings)
    policy, drawn = by_token(LOGITS), by_token(LOGITS / temperature)
    advantages = 9 * jnp.exp(jnp.sum(drawn, axis=-1)) * REWARDS  # a mean over nine rows, each as often as it is drawn
    batch = TokenBatch(policy, jnp.ones((9, 2), bool), REWARDS, advantages=advantages, logp_drawn=drawn)

    def loss(logits):
        return 2 * objective(objective.init(), TokenOutputs(by_token(logits)), batch)[0]  # of two tokens the mean

    return jax.grad(loss)(LOGITS)


def exact_gradient():
    return jax.grad(lambda logits: -jnp.sum(jnp.exp(jnp.sum(by_token(logits), axis=-1)) * REWARDS))(LOGITS)


@pytest.mark.slow
def test_a_sampler_at_another_temperature_is_corrected_exactly():
    """By whole responses within wide bounds; without correction, and by token, the gradient is another one."""
    exact = exact_gradient()
    assert_close(expected_gradient(1.0), exact, rtol=1e-4)
    corrected = expected_gradient(1.7, sampler_level="sequence", sampler_high=1e3)
    assert_close(corrected, exact, rtol=1e-4)
    assert np.abs(expected_gradient(1.7) - exact).max() > 0.05
    assert np.abs(expected_gradient(1.7, sampler_level="token", sampler_high=1e3) - exact).max() > 0.01


@pytest.mark.slow
def test_the_bias_of_bounds_is_what_lies_beyond_them():
    """Held at a bound, a response counts for the bound over its ratio; left out, for nothing."""
    policy, drawn = by_token(LOGITS), by_token(LOGITS / 1.7)
    ratio, slopes = jnp.exp(jnp.sum(policy - drawn, axis=-1)), jax.jacobian(by_token)(LOGITS)
    each = -(jnp.exp(jnp.sum(policy, axis=-1)) * REWARDS)[:, None, None] * jnp.sum(slopes, axis=1)
    assert 0 < int(jnp.sum(ratio > 1.2)) < 9
    held = jnp.sum(jnp.where(ratio > 1.2, 1.2 / ratio, 1.0)[:, None, None] * each, axis=0)
    found = expected_gradient(1.7, sampler_level="sequence", sampler_high=1.2)
    assert_close(found, held, rtol=1e-4)
    left = jnp.sum(jnp.where(ratio > 1.2, 0.0, 1.0)[:, None, None] * each, axis=0)
    found = expected_gradient(1.7, sampler_level="sequence", sampler_high=1.2, sampler_beyond="drop")
    assert_close(found, left, rtol=1e-4)


def test_rejected_responses_are_left_out_and_count_in_their_group():
    for settings, kept in (
        ({"reject_level": "geometric", "reject_high": 1.5}, [False, True]),  # 1.59 and 1.41
        ({"reject_level": "sequence", "reject_low": 3.0, "reject_high": 5.0}, [True, False]),
        ({"reject_level": "largest", "reject_high": 5.0}, [False, True]),  # the third token's 8, the second's 4
        ({"reject_level": "largest", "reject_low": 0.5, "reject_high": 5.0}, [False, True]),
        ({"reject_level": "none"}, [True, True]),
    ):
        objective = objectives.make("grpo", **settings)
        _, prepared = objective.prepare(objective.init(), batch_of())
        np.testing.assert_array_equal(prepared.mask, np.asarray(MASK) & np.array(kept)[:, None])
        np.testing.assert_allclose(prepared.advantages[:, 0], np.where(kept, [0.707106, -0.707106], 0.0), rtol=1e-5)


@pytest.mark.slow
def test_bad_responses_that_the_policy_has_left_behind_are_masked_by_hand():
    """Fallen by 0.5 and 0.2 nats a token: the bad one is left out above 0.3 alone, the good one never."""
    old, rewards = jnp.full((2, 2), -1.0), jnp.array([0.0, 1.0])
    logp = jnp.array([[-1.2, -1.8], [-1.1, -1.3]])
    for rows, threshold, expected in (([0, 1], 0.3, [0, 1]), ([0, 1], 0.6, [1, 1]), ([1, 0], 0.1, [1, 0])):
        batch = TokenBatch(old, jnp.ones((2, 2), bool), rewards[jnp.array(rows)], group_size=2, logp_drawn=old)
        objective = objectives.make("reinforce", off_policy_threshold=threshold)
        batch = dataclasses.replace(batch, advantages=jnp.array([-1.0, 1.0])[jnp.array(rows)])
        (_, aux), slope = jax.value_and_grad(lambda x, o=objective, b=batch: o((), TokenOutputs(x), b), has_aux=True)(
            logp
        )
        np.testing.assert_allclose(jnp.abs(slope) * 4, np.array(expected)[:, None] * np.ones((2, 2)), rtol=1e-6)
        np.testing.assert_allclose(aux.metrics["sampler/off_policy_masked"], 1 - np.mean(expected))
        np.testing.assert_allclose(aux.metrics["sampler/off_policy_nats"], 0.35, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("since", ["sampler", "policy"])
def test_the_off_policy_mask_is_its_formula(seed, since):
    """In value and gradient, with holes, advantages by token, and in one batch tokens that have moved by many nats."""
    draw = np.random.default_rng(seed)
    mask = draw.uniform(size=(6, 5)) < 0.6
    mask[:, 1] |= ~mask.any(axis=-1)
    old, drawn, logp = (-draw.gamma(1.0, size=(6, 5)) * (8.0 if seed == 3 else 1.0) for _ in range(3))
    advantages = draw.normal(size=(6, 5))
    fallen = (drawn if since == "sampler" else old) - logp
    mean = np.array([row[here].mean() for row, here in zip(fallen, mask, strict=True)])[:, None]
    kept = mask & ~((advantages < 0) & (mean > 0.2))
    assert kept.sum() < mask.sum()
    given = (np.where(mask, values, np.nan) for values in (old, drawn, advantages))
    old, drawn, by_token = (jnp.asarray(values, jnp.float32) for values in given)
    batch = TokenBatch(old, jnp.asarray(mask), jnp.zeros(6), advantages=by_token, logp_drawn=drawn)
    objective = objectives.make("reinforce", off_policy_threshold=0.2, off_policy_since=since)
    value, slope = jax.value_and_grad(lambda x: objective((), TokenOutputs(x), batch)[0])(
        jnp.asarray(logp, jnp.float32)
    )
    np.testing.assert_allclose(value, -(advantages * logp)[kept].sum() / mask.sum(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(slope, np.where(kept, -advantages, 0.0) / mask.sum(), rtol=1e-4, atol=1e-6)


def test_metrics_of_the_mismatch():
    found = mismatch_metrics(batch_of(), MASK)
    apart, ratios = NATS[np.asarray(MASK)], np.array([2.0, 0.25, 8.0, 0.5, 4.0])
    np.testing.assert_allclose(found["sampler/kl"], -apart.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["sampler/kl_k3"], (ratios - 1 - apart).mean(), rtol=1e-5)
    np.testing.assert_allclose(found["sampler/effective_share"], ratios.sum() ** 2 / (5 * (ratios**2).sum()), rtol=1e-5)
    np.testing.assert_allclose(found["sampler/largest_ratio"], 8.0, rtol=1e-5)
    same = mismatch_metrics(batch_of(0 * NATS), MASK)
    assert [float(same[f"sampler/{name}"]) for name in ("kl", "kl_k3", "effective_share", "largest_ratio")] == [
        0,
        0,
        1,
        1,
    ]


def test_where_sampler_and_policy_agree_nothing_changes():
    batch, outputs = batch_of(0 * NATS), TokenOutputs(jnp.full((2, 3), -1.4))
    plain, _ = objectives.make("grpo")((), outputs, batch)
    for settings in SAMPLER_CORRECTIONS.values():
        assert objectives.make("grpo", **settings)((), outputs, batch)[0] == plain


@pytest.mark.slow
def test_extremes_stay_finite_and_masked_places_may_hold_anything():
    apart = np.array([[80.0, -80.0, 0.0], [0.1, -0.1, np.nan]])
    batch, logp = batch_of(apart), jnp.full((2, 3), -1.5)
    for name, settings in SAMPLER_CORRECTIONS.items():
        objective = objectives.make("grpo", **settings)
        (loss, aux), slope = jax.value_and_grad(
            lambda logp, objective=objective: objective((), TokenOutputs(logp), batch), has_aux=True
        )(logp)
        assert np.isfinite(loss) and np.isfinite(slope).all(), name
        assert all(np.isfinite(value) for value in aux.metrics.values()), name


def test_what_is_missing_or_does_not_fit_is_said():
    bare = dataclasses.replace(batch_of(), logp_drawn=None)
    with pytest.raises(MissingInputError, match="SamplerCorrection needs logp_drawn: pass TokenBatch"):
        objectives.make("grpo", sampler_level="token")((), TokenOutputs(jnp.zeros((2, 3))), bare)
    with pytest.raises(InvalidSettingError, match="--reject-low must be at most --reject-high, got 2 and 1"):
        objectives.make("grpo", reject_low=2.0, reject_high=1.0)
    with pytest.raises(UnknownNameError, match="What other trainers call rollout_is_threshold is sampler_high here"):
        objectives.make("grpo", rollout_is_threshold=2.0)
    assert SamplerCorrection().sampler_high == 2.0
