"""What an update adds: the sheet's numbers, where exact DPO ends, and which likelihoods have to fall."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.closeness import assert_close

from maxent_rl.losses import (
    best_rejected,
    differential_information,
    differential_information_entropy,
    dpo_loss,
    preference_margin,
    preference_probability,
    projected_ascent,
    sampled_differential_information_entropy,
)

REFERENCE, TARGET = jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1])), jnp.log(jnp.array([0.6, 0.2, 0.15, 0.05]))
INFORMATION = [0.439024, 0.195122, 0.219512, 0.146341]
REJECTED = {1.0: [0.225352, 0.380282, 0.225352, 0.169014], 0.5: [0.306268, 0.344551, 0.216564, 0.132618]}
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
log_probs = arrays.arrays(np.float32, 5, elements=st.floats(-8, 0, width=32))
few = settings(max_examples=20, deadline=None)


@jax.jit
def expected_dpo(log_prob, reference, chosen, rejected, beta):
    """Over all pairs: one drawn from `chosen`, the other from `rejected`; pairs of one outcome count, as they are drawn."""
    margin = preference_margin(*jnp.broadcast_arrays(log_prob[:, None], log_prob[None, :]))
    margin = margin - (reference[:, None] - reference[None, :])
    return jnp.sum(jnp.exp(chosen)[:, None] * jnp.exp(rejected)[None, :] * dpo_loss(margin, beta))


@jax.jit
def learned(reference, chosen, rejected, beta):
    """A table of logits by exact gradients of that loss."""
    adam = optax.adam(0.05)

    def step(state, _):
        logits, moments = state
        slope = jax.grad(lambda x: expected_dpo(jax.nn.log_softmax(x), reference, chosen, rejected, beta))(logits)
        moves, moments = adam.update(slope, moments)
        return (logits + moves, moments), None

    start = jnp.zeros_like(chosen)
    (logits, _), _ = jax.lax.scan(step, (start, adam.init(start)), length=2000)
    return jax.nn.log_softmax(logits)


@wraps
def test_example_a(wrap):
    np.testing.assert_allclose(jnp.exp(wrap(differential_information)(TARGET, REFERENCE)), INFORMATION, atol=1e-5)
    np.testing.assert_allclose(wrap(differential_information_entropy)(TARGET, REFERENCE), 1.294357, atol=1e-5)


@wraps
@pytest.mark.parametrize(("beta", "first_over_second", "loss"), [(1.0, 0.692308, 0.654729), (0.5, 0.6, 0.682798)])
def test_example_a_preferences(wrap, beta, first_over_second, loss):
    rejected = wrap(lambda r, t: best_rejected(r, t, beta))(REFERENCE, TARGET)
    np.testing.assert_allclose(jnp.exp(rejected), REJECTED[beta], atol=1e-5)
    preferred = wrap(preference_probability)(REFERENCE, rejected)
    np.testing.assert_allclose(preferred[0, 1], first_over_second, atol=1e-5)
    np.testing.assert_allclose(preferred + preferred.T, np.ones((4, 4)), atol=1e-6)
    np.testing.assert_allclose(expected_dpo(TARGET, REFERENCE, REFERENCE, rejected, beta), loss, atol=1e-5)


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_exact_dpo_ends_at_the_target(beta):
    """Check 5, and the loss of example A there."""
    rejected = best_rejected(REFERENCE, TARGET, beta)
    found = learned(REFERENCE, REFERENCE, rejected, beta)
    np.testing.assert_allclose(jnp.exp(found), jnp.exp(TARGET), atol=1e-4)
    best = {1.0: 0.654729, 0.5: 0.682798}[beta]
    np.testing.assert_allclose(expected_dpo(found, REFERENCE, REFERENCE, rejected, beta), best, atol=1e-5)


def test_without_a_reference_the_information_itself_is_learned():
    """Check 5: the optimum is q, with the same loss."""
    rejected = best_rejected(REFERENCE, TARGET)
    found = learned(jnp.zeros(4), REFERENCE, rejected, 1.0)
    np.testing.assert_allclose(jnp.exp(found), INFORMATION, atol=1e-4)
    np.testing.assert_allclose(expected_dpo(found, jnp.zeros(4), REFERENCE, rejected, 1.0), 0.654729, atol=1e-5)


def test_other_rejected_responses_lead_elsewhere():
    """Check 5: rejected responses of a uniform policy, or of another beta, do not encode the target."""
    for rejected in (jnp.log(jnp.full(4, 0.25)), best_rejected(REFERENCE, TARGET, 0.5)):
        found = learned(REFERENCE, REFERENCE, rejected, 1.0)
        assert jnp.abs(jnp.exp(found) - jnp.exp(TARGET)).max() > 0.02


@pytest.mark.parametrize(
    ("chosen", "beta", "of_chosen", "of_rejected"),
    [
        ("reference", 1.0, -0.086305, -0.244800),
        ("reference", 0.5, -0.086305, -0.169748),
        ("target", 1.0, 0.084376, -0.086305),
    ],
)
def test_displacement(chosen, beta, of_chosen, of_rejected):
    """Item 7: chosen by the reference, their likelihood falls on average; rejected by it, only that of the rejected does."""
    change = TARGET - REFERENCE
    if chosen == "reference":
        pair = jnp.exp(REFERENCE), jnp.exp(best_rejected(REFERENCE, TARGET, beta))
    else:
        pair = jnp.exp(TARGET), jnp.exp(REFERENCE)
    np.testing.assert_allclose([pair[0] @ change, pair[1] @ change], [of_chosen, of_rejected], atol=1e-5)


def test_displacement_at_half_the_power():
    """Item 7: chosen from reference * rho**beta with beta 1/2, the change hardly differs from 0."""
    change = TARGET - REFERENCE
    chosen = jax.nn.softmax(REFERENCE + 0.5 * change)
    np.testing.assert_allclose(chosen @ change, 0.000488, atol=1e-6)


@few
@given(reference=log_probs, target=log_probs, beta=st.sampled_from([0.5, 1.0, 2.0]))
def test_displacement_and_order_of_margins_for_any_policies(reference, target, beta):
    """Items 6 and 7: the divergences, and equally spaced margins up to beta."""
    reference, target = jax.nn.log_softmax(reference), jax.nn.log_softmax(target)
    rejected = best_rejected(reference, target, beta)
    change = target - reference
    assert jnp.exp(reference) @ change <= 1e-5
    assert jnp.exp(rejected) @ change <= jnp.exp(reference) @ change + 1e-5
    gains = [(policy[:, None] - policy[None, :]) for policy in (target, reference, rejected)]
    np.testing.assert_allclose(beta * (gains[0] - gains[1]), gains[1] - gains[2], atol=1e-4)


@pytest.mark.parametrize(
    ("after", "entropy"),
    [([0.7, 0.2, 0.07, 0.03], 1.126986), ([0.25] * 4, 1.242458), ([0.1, 0.2, 0.3, 0.4], 0.996069)],
)
def test_entropy_of_other_updates(after, entropy):
    """The last policy has the entropy of the reference: that of the information is no function of it."""
    np.testing.assert_allclose(
        differential_information_entropy(jnp.log(jnp.array(after)), REFERENCE), entropy, atol=1e-5
    )


@few
@given(left=log_probs, right=log_probs, shift=st.sampled_from([-3.0, 7.0]))
def test_bounds_and_scale(left, right, shift):
    """Check 6: between 0 and log Y, whatever constant the ratio has."""
    entropy = differential_information_entropy(left, right)
    assert -1e-5 <= entropy <= np.log(5) + 1e-5
    np.testing.assert_allclose(differential_information_entropy(left + shift, right), entropy, atol=1e-4)
    np.testing.assert_allclose(differential_information_entropy(left, left), np.log(5), rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(differential_information(left, right)).sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 5.0])
@pytest.mark.parametrize("drawn_from", ["policy", "reference", "uniform"])
def test_the_estimate_converges_whatever_policy_draws(drawn_from, shift):
    """Check 6, with counts as they are expected of 20 000 samples, then with samples themselves."""
    drawing = {"policy": TARGET, "reference": REFERENCE, "uniform": jnp.log(jnp.full(4, 0.25))}[drawn_from]
    ratio = TARGET - REFERENCE + shift
    exact = np.repeat(np.arange(4), np.round(20_000 * np.exp(drawing)).astype(int))
    estimate = sampled_differential_information_entropy(ratio[exact], drawing[exact])
    np.testing.assert_allclose(estimate, 1.294357, atol=1e-4)
    sampled = np.random.default_rng(1).choice(4, 20_000, p=np.exp(drawing) / np.exp(drawing).sum())
    estimate = sampled_differential_information_entropy(ratio[sampled], drawing[sampled])
    np.testing.assert_allclose(estimate, 1.294357, atol=0.02)


def test_the_estimate_of_one_sample_and_of_huge_ratios():
    """One sample knows nothing but its own weight: the entropy of as many outcomes as its probability says there are."""
    assert_close(sampled_differential_information_entropy(jnp.array([3.0]), jnp.log(jnp.array([0.1]))), np.log(10))
    rows = sampled_differential_information_entropy(jnp.array([[500.0, 499.0], [0.0, -1.0]]), jnp.full((2, 2), -800.0))
    assert_close(rows[0], rows[1])
    assert np.isfinite(rows).all()


def test_gradients_and_vmap():
    """The entropy is largest, and flat, where nothing has been learned; rows are independent."""
    np.testing.assert_allclose(jax.grad(differential_information_entropy)(REFERENCE, REFERENCE), np.zeros(4), atol=1e-6)
    rows = jnp.stack([TARGET, REFERENCE]), jnp.stack([REFERENCE, TARGET])
    for function in (differential_information, best_rejected, preference_probability, differential_information_entropy):
        assert_close(jax.vmap(function)(*rows), function(*rows))


@few
@given(left=log_probs, right=log_probs)
def test_projected_ascent_never_lowers_the_chosen_likelihood(left, right):
    """To first order: its product with the chosen gradient is c (|g|^2 + max(0, -<h, g>))."""
    direction = projected_ascent({"a": left[:2], "b": left[2:]}, {"a": right[:2], "b": right[2:]}, 1.5, 0.1)
    direction = np.concatenate([direction["a"], direction["b"]])
    rate = 0.1 / (1 + np.exp(0.15))
    expected = rate * (left @ left + max(0.0, -(right @ left)))
    np.testing.assert_allclose(direction @ left, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(projected_ascent(left, -right * 0, 1.5), rate * left, rtol=1e-5, atol=1e-7)


def test_projected_ascent_is_dpo_where_the_gradients_oppose():
    chosen, rejected = jnp.array([1.0, 0.0]), jnp.array([-0.5, 2.0])

    def loss(weights):
        return dpo_loss(preference_margin(weights @ chosen, weights @ rejected, 0.0, -1.0), 0.3)

    weights = jnp.array([0.2, -0.1])
    margin = preference_margin(weights @ chosen, weights @ rejected, 0.0, -1.0)
    assert_close(projected_ascent(chosen, rejected, margin, 0.3), -jax.grad(loss)(weights))
    together = projected_ascent(chosen, jnp.array([0.5, 2.0]), 0.0, 1.0)
    assert_close(together, np.array([0.5, -1.0]))
    assert not projected_ascent(jnp.zeros(2), jnp.zeros(2), 0.0).any()
    mapped = jax.jit(jax.vmap(projected_ascent))(
        jnp.stack([chosen] * 2), jnp.stack([rejected] * 2), jnp.array([0.0, 1.0])
    )
    assert_close(mapped[1], projected_ascent(chosen, rejected, 1.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: differential_information(jnp.zeros(3), jnp.zeros(4)), r"log_prob \(3,\), reference_log_prob \(4,\)"),
        (lambda: differential_information_entropy(jnp.zeros(3), jnp.zeros(())), "equal shapes"),
        (lambda: sampled_differential_information_entropy(jnp.zeros(3), jnp.zeros(1)), "equal shapes"),
        (lambda: best_rejected(REFERENCE, TARGET, 0.0), r"Expected beta above 0, got 0\.0\."),
        (lambda: projected_ascent(REFERENCE, TARGET, 0.0, -1.0), "beta"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
