"""Losses on preferences: the sheet's numbers, minima, invariances, and that noisy labels do what they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.closeness import assert_close

from maxent_rl.losses import (
    anchored_logits,
    anchored_pair_loss,
    cpo_loss,
    dpo_loss,
    exo_loss,
    hinge_loss,
    implicit_reward,
    ipo_loss,
    kto_baseline,
    kto_loss,
    logistic_loss,
    orpo_loss,
    preference_margin,
    robust_dpo_loss,
    rpo_loss,
    simpo_loss,
)

CHOSEN, REJECTED, REFERENCE = -10.0, -12.0, (-11.0, -11.5)
MARGIN = 1.5
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
margins = st.floats(-50, 50, width=32)
few = settings(max_examples=25, deadline=None)

EXAMPLE_B = {
    "dpo": (lambda m: dpo_loss(m, 0.1), 0.620957),
    "conservative": (lambda m: dpo_loss(m, 0.1, 0.9), 0.635957),
    "robust": (lambda m: robust_dpo_loss(m, 0.1, 0.1), 0.602207),
    "ipo": (lambda m: ipo_loss(m, 0.1), 12.25),
    "hinge": (lambda m: hinge_loss(m, 0.1), 0.85),
}
AT_THE_REFERENCE = {
    "dpo": (lambda m: dpo_loss(m, 0.1), np.log(2)),
    "conservative": (lambda m: dpo_loss(m, 0.1, 0.8), np.log(2)),
    "robust": (lambda m: robust_dpo_loss(m, 0.1, 0.2), np.log(2)),
    "ipo": (lambda m: ipo_loss(m, 0.1), 25.0),
    "hinge": (lambda m: hinge_loss(m, 0.1), 1.0),
}
OF_THE_MARGIN = {
    **{name: loss for name, (loss, _) in AT_THE_REFERENCE.items()},
    "exo": lambda m: exo_loss(m, 0.1),
    "soft label": lambda m: dpo_loss(m, 0.1, 0.3),
}


@wraps
@pytest.mark.parametrize("name", EXAMPLE_B)
def test_worked_example_b(wrap, name):
    loss, value = EXAMPLE_B[name]
    margin = preference_margin(CHOSEN, REJECTED, *REFERENCE)
    assert margin == MARGIN
    np.testing.assert_allclose(wrap(loss)(margin[None])[0], value, atol=1e-5)


@wraps
def test_worked_example_b_without_pairs(wrap):
    ratios, desirable = jnp.array([1.0, -0.5]), jnp.array([True, False])
    found = wrap(lambda ratio, good: kto_loss(ratio, good, 0.2))(ratios, desirable)
    np.testing.assert_allclose(found, [0.480011, 0.482507], atol=1e-5)
    weighted = kto_loss(ratios, desirable, 0.2, desirable_weight=2.0, undesirable_weight=3.0)
    assert_close(weighted, found * jnp.array([2.0, 3.0]))


@wraps
def test_worked_example_b_of_means_per_token(wrap):
    margin = preference_margin(jnp.array([CHOSEN / 10]), jnp.array([REJECTED / 12]))
    np.testing.assert_allclose(wrap(lambda m: simpo_loss(m, 2.0, 1.0))(margin), [1.313262], atol=1e-5)


@pytest.mark.parametrize("name", AT_THE_REFERENCE)
def test_at_the_reference(name):
    """Check 1: the known value, and gradients of equal size and opposite sign for chosen and rejected."""
    loss, value = AT_THE_REFERENCE[name]
    found, slopes = jax.value_and_grad(lambda pair: loss(preference_margin(*pair, -3.0, -4.0)))((-3.0, -4.0))
    assert_close(found, value)
    assert slopes[0] == -slopes[1] < 0


@few
@given(margin=margins)
def test_without_flips_all_are_dpo(margin):
    assert dpo_loss(margin, 0.1, 1.0 - 0.0) == robust_dpo_loss(margin, 0.1, 0.0) == dpo_loss(margin, 0.1)


@few
@given(margin=margins, flips=st.floats(0, 0.4))
def test_the_robust_loss_has_the_mean_of_clean_labels(margin, flips):
    """Check 2: flipping a label is changing the sign of the margin."""
    mean = (1 - flips) * robust_dpo_loss(margin, 0.1, flips) + flips * robust_dpo_loss(-margin, 0.1, flips)
    wrong = float(dpo_loss(-abs(margin), 0.1))  # the larger of the two losses, of which the smaller is what is left
    assert_close(mean, dpo_loss(margin, 0.1), scale=wrong)


def test_flipped_labels_in_numbers():
    """Check 2 on labels that were really flipped: the robust loss estimates the clean one, conservative and plain do not."""
    random = np.random.default_rng(0)
    margin = random.normal(1.0, 2.0, 100_000)
    seen = np.where(random.random(margin.shape) < 0.3, -margin, margin)
    clean = jnp.mean(dpo_loss(margin, 1.0))
    np.testing.assert_allclose(jnp.mean(robust_dpo_loss(seen, 1.0, 0.3)), clean, atol=0.03)
    assert abs(jnp.mean(dpo_loss(seen, 1.0)) - clean) > 0.2
    assert abs(jnp.mean(dpo_loss(seen, 1.0, 0.7)) - clean) > 0.2


@pytest.mark.parametrize(
    ("loss", "margin"),
    [
        (lambda m: dpo_loss(m, 0.5, 0.9), np.log(9) / 0.5),
        (lambda m: dpo_loss(m, 0.5, 0.3), np.log(0.3 / 0.7) / 0.5),
        (lambda m: ipo_loss(m, 0.5), 1.0),
        (lambda m: exo_loss(m, 0.5, 0.1), np.log(9) / 0.5),
    ],
    ids=["conservative", "soft label", "ipo", "exo"],
)
def test_minima(loss, margin):
    """Check 3: no slope there, and more on both sides."""
    np.testing.assert_allclose(jax.grad(loss)(margin), 0.0, atol=1e-6)
    assert loss(margin) < min(loss(margin - 0.5), loss(margin + 0.5))


def test_hinge_ends_where_the_margin_is_won():
    assert hinge_loss(2.0, 0.5) == hinge_loss(7.0, 0.5) == jax.grad(hinge_loss)(7.0, 0.5) == 0
    assert jax.grad(hinge_loss)(1.9, 0.5) == -0.5


def test_exo_is_a_divergence():
    assert abs(exo_loss(np.log(999.0), 1.0)) < 1e-6
    p = 1 / (1 + np.exp(-0.15))
    expected = p * np.log(p / 0.999) + (1 - p) * np.log((1 - p) / 0.001)
    np.testing.assert_allclose(exo_loss(MARGIN, 0.1), expected, rtol=1e-5)


@pytest.mark.parametrize("name", OF_THE_MARGIN)
@pytest.mark.parametrize("shift", [-2.0, 3.0])
def test_only_the_difference_counts(name, shift):
    """Check 4, those that stay."""
    before, after = (preference_margin(CHOSEN + c, REJECTED + c, *REFERENCE) for c in (0.0, shift))
    np.testing.assert_allclose(OF_THE_MARGIN[name](after), OF_THE_MARGIN[name](before), rtol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        lambda c, r: orpo_loss(c / 10, r / 12),
        cpo_loss,
        lambda c, r: rpo_loss(preference_margin(c, r), c / 10),
        lambda c, r: jnp.sum(kto_loss(jnp.array([c, r]) + 11.0, jnp.array([True, False]), 0.2, desirable_weight=4 / 3)),
        lambda c, r: simpo_loss(preference_margin(c / 10, r / 12)),
        lambda c, r: ipo_loss(preference_margin(c / 10, r / 12)),
    ],
    ids=["orpo", "cpo", "rpo", "kto", "simpo", "ipo of means"],
)
def test_more_than_the_difference_counts(loss):
    """Check 4, those that change."""
    assert abs(loss(CHOSEN + 3.0, REJECTED + 3.0) - loss(CHOSEN, REJECTED)) > 1e-3


@few
@given(margin=margins, beta=st.floats(0.0625, 2, width=32))
def test_gradient_of_dpo(margin, beta):
    slope = jax.grad(dpo_loss)(margin, beta)
    np.testing.assert_allclose(slope, -beta * jax.nn.sigmoid(-beta * margin), rtol=1e-5, atol=1e-7)


def test_slopes_are_those_of_finite_differences():
    cases = {**OF_THE_MARGIN, "kto": lambda m: kto_loss(m, True, 0.3), "logistic": lambda m: logistic_loss(m, 0.2)}
    for name, loss in cases.items():
        numeric = (loss(MARGIN + 0.05) - loss(MARGIN - 0.05)) / 0.1
        np.testing.assert_allclose(jax.grad(loss)(MARGIN), numeric, rtol=5e-3, atol=1e-4, err_msg=name)
    for argument in (0, 1):
        pair = np.array([-0.4, -0.9], np.float32)
        step = 0.01 * np.eye(2, dtype=np.float32)[argument]
        numeric = (orpo_loss(*(pair + step)) - orpo_loss(*(pair - step))) / 0.02
        np.testing.assert_allclose(jax.grad(orpo_loss, argument)(*pair), numeric, rtol=5e-3)


@pytest.mark.parametrize("beta", [0.1, 0.7, 2.0])
def test_dpo_is_the_hard_anchored_pair_loss(beta):
    """ADPO, check 3: a frozen reference as anchor, temperature 1 / beta; in value and in gradient."""
    log_prob = jnp.array([[-10.0, -12.0], [-3.0, -2.5], [-7.0, -7.0], [-1.0, -30.0]])
    reference = jnp.array([[-11.0, -11.5], [-3.5, -2.0], [-7.0, -7.0], [-5.0, -5.0]])

    def direct(log_prob):
        return jnp.sum(dpo_loss(preference_margin(*log_prob.T, *reference.T), beta))

    def anchored(log_prob):
        loss, weight = anchored_pair_loss(anchored_logits(log_prob, reference, 1 / beta), jnp.array([1.0, 0.0]))
        return jnp.sum(loss * weight)

    both = [jax.jit(jax.value_and_grad(loss))(log_prob) for loss in (direct, anchored)]
    assert_close(*both)


def test_the_sums_of_parts():
    chosen, rejected = jnp.array([-2.0, -0.3]), jnp.array([-1.0, -5.0])
    margin = preference_margin(chosen, rejected)
    np.testing.assert_allclose(rpo_loss(margin, chosen, 0.1, 2.0), dpo_loss(margin, 0.1) - 2 * chosen, rtol=1e-6)
    np.testing.assert_allclose(cpo_loss(chosen, rejected, 0.1), dpo_loss(margin, 0.1) - chosen, rtol=1e-6)
    odds = np.log(np.exp(chosen) / (1 - np.exp(chosen))) - np.log(np.exp(rejected) / (1 - np.exp(rejected)))
    np.testing.assert_allclose(orpo_loss(chosen, rejected), -chosen + 0.1 * np.log1p(np.exp(-odds)), rtol=1e-5)


def test_odds_of_the_certain_and_of_the_impossible():
    """A response of probability 1 has infinite odds; the loss must not."""
    for pair in ((0.0, 0.0), (0.0, -100.0), (-100.0, 0.0), (-1e-9, -1e-5), (-1e4, -1e4)):
        value, slopes = jax.value_and_grad(orpo_loss, (0, 1))(*pair)
        assert np.isfinite([value, *slopes]).all(), pair
    np.testing.assert_allclose(orpo_loss(-1e-4, -1e-4), 1e-4 + 0.1 * np.log(2), rtol=1e-5)


def test_losses_are_finite_at_large_margins():
    for name, loss in OF_THE_MARGIN.items():
        for margin in (-1e5, 1e5):
            assert np.isfinite(jax.value_and_grad(loss)(margin)).all(), name


def test_baseline():
    """The mean over the batch of both labels, never below 0, without gradient; masked values never matter."""
    assert_close(kto_baseline(jnp.array([0.5, -0.1, 0.2])), 0.2)
    assert kto_baseline(jnp.array([-1.0, 0.2])) == 0
    assert_close(kto_baseline(jnp.array([0.6, jnp.nan]), jnp.array([True, False])), 0.6)
    assert kto_baseline(jnp.zeros(0)) == kto_baseline(jnp.ones(2), jnp.zeros(2)) == 0
    np.testing.assert_array_equal(jax.grad(kto_baseline)(jnp.array([0.5, 0.2])), np.zeros(2))


def test_what_is_held_constant():
    in_references = jax.grad(lambda a, b: dpo_loss(preference_margin(-1.0, -2.0, a, b)), (0, 1))(-1.5, -1.0)
    assert in_references == (0, 0)
    assert jax.grad(dpo_loss, 2)(1.0, 0.1, 0.4) == jax.grad(kto_loss, 2)(1.0, True, 0.2) == 0
    assert jax.grad(implicit_reward)(-1.0, -2.0) == 0


def test_implicit_rewards_rank_as_the_margin_does():
    rewards = [implicit_reward(log_prob, ref, 0.1) for log_prob, ref in zip((CHOSEN, REJECTED), REFERENCE, strict=True)]
    np.testing.assert_allclose(rewards, [0.1, -0.05], atol=1e-6)
    np.testing.assert_allclose(rewards[0] - rewards[1], 0.1 * MARGIN, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dpo_loss(1.0, beta=0.0), r"Expected beta above 0, got 0\.0\."),
        (lambda: dpo_loss(1.0, beta=float("nan")), r"Expected beta above 0, got nan\."),
        (lambda: ipo_loss(1.0, beta=-1), "Expected beta above 0, got -1"),
        (lambda: hinge_loss(1.0, -0.1), "beta"),
        (lambda: simpo_loss(1.0, 0.0), "beta"),
        (lambda: kto_loss(1.0, True, 0.0, 0.0), "beta"),
        (lambda: implicit_reward(1.0, 0.0, 0.0), "beta"),
        (lambda: robust_dpo_loss(1.0, 0.1, 0.5), r"Expected flip_probability in \[0, 0\.5\), got 0\.5\."),
        (lambda: robust_dpo_loss(1.0, 0.1, -0.1), "flip_probability"),
        (lambda: exo_loss(1.0, 0.1, 0.0), r"Expected epsilon in \(0, 0\.5\), got 0\.0\."),
        (lambda: preference_margin(jnp.zeros(2), jnp.zeros(3)), r"log_prob_chosen \(2,\), log_prob_rejected \(3,\)"),
        (lambda: preference_margin(jnp.zeros(2), jnp.zeros(2), jnp.zeros(1)), r"reference_chosen .* got shape \(1,\)"),
        (lambda: dpo_loss(jnp.zeros(2), 0.1, jnp.zeros((2, 1))), "target"),
        (lambda: kto_loss(jnp.zeros(2), jnp.zeros(1), 0.0), "desirable"),
        (lambda: orpo_loss(jnp.zeros(2), jnp.zeros(1)), "equal shapes"),
        (lambda: rpo_loss(jnp.zeros(2), jnp.zeros(1)), "equal shapes"),
        (lambda: implicit_reward(jnp.zeros(2), jnp.zeros(3)), "reference"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_traced_coefficients_are_not_looked_at():
    np.testing.assert_allclose(jax.jit(robust_dpo_loss)(MARGIN, 0.1, 0.1), 0.602207, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(dpo_loss, (None, 0))(MARGIN, jnp.array([0.1, 1.0]))[0], 0.620957, atol=1e-5)


def test_empty_batches():
    assert dpo_loss(preference_margin(jnp.zeros(0), jnp.zeros(0))).shape == (0,)
