"""Contrastive preference learning: the sheet's numbers, what the bias is for, and where a table of probabilities ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.closeness import assert_close

from maxent_rl.losses import (
    contrastive_loss,
    contrastive_ranking_loss,
    dpo_loss,
    preference_margin,
    segment_score,
    squared_error_log_prob,
)

FIRST, SECOND = jnp.array([-1.2, -0.8, -2.0]), jnp.array([-0.5, -1.0, -0.9])
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
scores = st.floats(-20, 20, width=32)
few = settings(max_examples=25, deadline=None)


def segments_loss(first, second, label=1.0, bias=1.0, reference=(0.0, 0.0)):
    score_1, score_2 = segment_score(first, 0.1, reference[0]), segment_score(second, 0.1, reference[1])
    return contrastive_loss(score_1, score_2, label, bias)


@wraps
@pytest.mark.parametrize(
    ("bias", "loss", "in_second", "in_first"),
    [(1.0, 0.616344, -0.046009, 0.046009), (0.5, 0.713347, -0.051000, 0.025500)],
)
def test_worked_example_1(wrap, bias, loss, in_second, in_first):
    """Also check 3: every step of a segment gets the same gradient."""
    found, slopes = wrap(jax.value_and_grad(lambda pair: segments_loss(*pair, bias=bias)))((FIRST, SECOND))
    np.testing.assert_allclose(found, loss, atol=1e-5)
    np.testing.assert_allclose(slopes[0], np.full(3, in_first), atol=1e-5)
    np.testing.assert_allclose(slopes[1], np.full(3, in_second), atol=1e-5)


def test_worked_example_1_scores_and_tie():
    np.testing.assert_allclose([segment_score(FIRST), segment_score(SECOND)], [-0.4, -0.24], rtol=1e-6)
    np.testing.assert_allclose(segments_loss(FIRST, SECOND, 0.5, 0.5), 0.778131, atol=1e-5)
    halves = [segments_loss(FIRST, SECOND, label, 0.5) for label in (0.0, 1.0)]
    np.testing.assert_allclose(np.mean(halves), 0.778131, atol=1e-5)


@wraps
def test_worked_example_2(wrap):
    found = wrap(lambda s, q: contrastive_ranking_loss(s, q, 0.5))(jnp.array([-0.4, -0.24, -0.6]), jnp.array([1, 3, 2]))
    np.testing.assert_allclose(found, [0.913015, 0.713347, 0.663597], atol=1e-5)
    np.testing.assert_allclose(jnp.mean(found), 0.763320, atol=1e-5)


def test_deterministic_actor():
    found = squared_error_log_prob(jnp.array([0.1, 0.1]), jnp.array([0.3, -0.2]))
    np.testing.assert_allclose(found, -0.13, atol=1e-6)


@few
@given(
    first=scores, second=scores, label=st.sampled_from([0.0, 0.5, 1.0, 0.25]), bias=st.sampled_from([0.5, 0.75, 1.0])
)
def test_swapping_segments_and_labels_changes_nothing(first, second, label, bias):
    """Check 1, for every bias."""
    there = contrastive_loss(first, second, label, bias)
    np.testing.assert_allclose(there, contrastive_loss(second, first, 1 - label, bias), rtol=1e-6)


@few
@given(first=scores, second=scores, label=st.sampled_from([0.0, 0.5, 1.0]), bias=st.sampled_from([0.25, 0.5, 0.75]))
def test_only_a_bias_minds_that_both_likelihoods_fall(first, second, label, bias):
    """Check 1: with a bias of 1 the common part is free, with less the loss falls as it grows."""
    at = jnp.array([-2.0, 0.0, 2.0])
    plain = contrastive_loss(first + at, second + at, label)
    np.testing.assert_allclose(plain, jnp.full(3, plain[1]), rtol=1e-4, atol=1e-5)
    biased = contrastive_loss(first + at, second + at, label, bias)
    assert (jnp.diff(biased) < 0).all() or biased[0] < 1e-6


@pytest.mark.parametrize("label", [0.0, 0.3, 1.0])
def test_equal_scores(label):
    """Check 2."""
    assert_close(contrastive_loss(-3.0, -3.0, label), np.log(2))


def test_gradients_of_a_batch():
    """Check 3, with several pairs and against finite differences."""
    first, second, labels = jnp.array([-0.4, 1.0, 0.3]), jnp.array([-0.24, 0.2, 0.3]), jnp.array([1.0, 0.0, 0.5])

    def mean(first, second):
        return jnp.mean(contrastive_loss(first, second, labels, 0.5))

    in_first, in_second = jax.grad(mean, (0, 1))(first, second)
    rate = jax.nn.sigmoid(-(second[0] - 0.5 * first[0])) / 3
    np.testing.assert_allclose([in_second[0], in_first[0]], [-rate, 0.5 * rate], rtol=1e-5)
    for index in range(3):
        step = jnp.zeros(3).at[index].set(0.05)
        numeric = (mean(first + step, second) - mean(first - step, second)) / 0.1
        np.testing.assert_allclose(in_first[index], numeric, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("bias", [0.5, 1.0])
def test_no_temperature_and_the_reference_itself(bias):
    """Check 4: log 2 in both limits; for the policy that is its own reference at any bias."""
    tiny = [segment_score(log_prob, 1e-8) for log_prob in (FIRST, SECOND)]
    np.testing.assert_allclose(contrastive_loss(*tiny, 1.0, bias), np.log(2), atol=1e-6)
    assert_close(segments_loss(FIRST, SECOND, 1.0, bias, (FIRST, SECOND)), np.log(2))


def test_one_step_with_a_reference_is_dpo():
    """The sheet's relation: alpha is beta, the bias 1."""
    chosen, rejected, references = (
        jnp.array([-1.0, -2.0]),
        jnp.array([-3.0, -1.0]),
        jnp.array([[-2.0, -1.0], [-1.0, -4.0]]),
    )
    scores = [
        segment_score(log_prob[:, None], 0.3, reference[:, None])
        for log_prob, reference in zip((rejected, chosen), references, strict=True)
    ]
    margin = preference_margin(chosen, rejected, references[1], references[0])
    assert_close(contrastive_loss(*scores, 1.0), dpo_loss(margin, 0.3))


@pytest.mark.slow
def test_a_bandit_ends_at_the_softmax_of_its_advantages():
    """Check 5: all pairs of arms, labelled with their true probabilities, by gradient descent on a table."""
    alpha, gains = 0.5, jnp.array([0.3, -0.2, 0.8, 0.0, -1.0])
    optimal = jax.nn.softmax(gains / alpha)
    advantage = alpha * jnp.log(optimal)
    one, two = jnp.triu_indices(5, k=1)
    label = jax.nn.sigmoid(advantage[two] - advantage[one])

    def loss(logits):
        log_prob = jax.nn.log_softmax(logits)
        score = segment_score(log_prob[:, None], alpha)
        return jnp.mean(contrastive_loss(score[one], score[two], label))

    def step(_, logits):
        return logits - 20.0 * jax.grad(loss)(logits)

    found = jax.jit(lambda logits: jax.lax.fori_loop(0, 400, step, logits))(jnp.zeros(5))
    np.testing.assert_allclose(jax.nn.softmax(found), optimal, atol=1e-5)


@pytest.mark.parametrize("bias", [0.5, 1.0])
def test_ranking_two_segments_is_the_pair_loss(bias):
    """Check 6."""
    for quality, label in (([1.0, 2.0], 1.0), ([2.0, 1.0], 0.0)):
        ranked = contrastive_ranking_loss(jnp.array([-0.4, -0.24]), jnp.array(quality), bias)
        assert_close(ranked, contrastive_loss(-0.4, -0.24, label, bias)[None])


def test_ties_are_broken_by_the_order_of_the_batch():
    score = jnp.array([0.5, -1.0, 2.0])
    tied, ordered = (contrastive_ranking_loss(score, jnp.array(quality)) for quality in ([7.0] * 3, [1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(tied, ordered)


@pytest.mark.parametrize("size", [0, 1])
def test_batches_without_a_pair(size):
    assert contrastive_ranking_loss(jnp.zeros(size), jnp.zeros(size)).shape == (0,)


def test_discount_mask_and_padding():
    log_prob, mask = jnp.array([-1.0, -2.0, jnp.nan]), jnp.array([True, True, False])
    value, slope = jax.value_and_grad(lambda x: segment_score(x, 0.1, discount=0.5, mask=mask))(log_prob)
    np.testing.assert_allclose(value, -0.2, rtol=1e-6)
    np.testing.assert_allclose(slope, [0.1, 0.05, 0.0], rtol=1e-6)
    assert segment_score(jnp.zeros((2, 0))).tolist() == [0, 0]
    assert segment_score(log_prob, mask=jnp.zeros(3)) == 0
    mapped = jax.vmap(segment_score)(jnp.stack([FIRST, SECOND]))
    np.testing.assert_allclose(mapped, segment_score(jnp.stack([FIRST, SECOND])), rtol=1e-6)


def test_what_is_held_constant():
    assert not jax.grad(lambda reference: segment_score(FIRST, 0.1, reference))(SECOND).any()
    assert jax.grad(contrastive_loss, 2)(0.3, 0.1, 0.5) == 0
    assert not jax.grad(lambda quality: contrastive_ranking_loss(FIRST, quality).sum())(SECOND).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: contrastive_loss(0.0, 0.0, 1.0, 0.0), r"Expected bias in \(0, 1\], got 0\.0\."),
        (lambda: contrastive_ranking_loss(jnp.zeros(2), jnp.zeros(2), 1.5), "bias"),
        (lambda: contrastive_loss(jnp.zeros(2), jnp.zeros(3), 1.0), r"score_1 \(2,\), score_2 \(3,\)"),
        (lambda: contrastive_loss(jnp.zeros(2), jnp.zeros(2), jnp.zeros((2, 1))), "label"),
        (lambda: contrastive_ranking_loss(jnp.zeros(2), jnp.zeros(3)), "equal shapes"),
        (lambda: contrastive_ranking_loss(jnp.zeros((2, 2)), jnp.zeros((2, 2))), r"one axis, got shape \(2, 2\)"),
        (lambda: segment_score(FIRST, 0.0), "Expected alpha above 0, got 0"),
        (lambda: segment_score(FIRST, discount=1.1), r"Expected discount in \[0, 1\], got 1\.1\."),
        (lambda: segment_score(FIRST, reference=jnp.zeros(2)), "reference"),
        (lambda: segment_score(0.0), "last axis"),
        (lambda: squared_error_log_prob(jnp.zeros(2), jnp.zeros(1)), "equal shapes"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
