"""What keeps a policy to the data's actions: numbers by hand, bounds, and what masks leave out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxent_rl.losses import better_than_policy, conservative_penalty, likely_choices, weighted_cloning_loss

wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
few = settings(max_examples=25, deadline=None)
several = st.lists(st.floats(-20, 20, width=32), min_size=4, max_size=4)


@wraps
def test_the_penalty_by_hand(wrap):
    """log(e + e^2) - 1."""
    found = wrap(conservative_penalty)(jnp.array([[1.0, 2.0]]), jnp.array([1.0]))
    np.testing.assert_allclose(found, [1.313262], rtol=1e-5)


@pytest.mark.slow
@few
@given(values=several)
def test_over_all_choices_the_penalty_is_not_negative_and_its_slopes_sum_to_zero(values):
    values = jnp.array(values)
    penalty, slope = jax.value_and_grad(lambda values: conservative_penalty(values, values[0]))(values)
    assert penalty >= -1e-5
    np.testing.assert_allclose(slope, jax.nn.softmax(values) - jnp.eye(len(values))[0], atol=1e-5)


@wraps
def test_likely_choices_by_hand(wrap):
    """Relative to the likeliest: 1, 0.4, 0.24, 0.36; the constant of logits does not matter."""
    logits = jnp.log(jnp.array([[0.5, 0.2, 0.12, 0.18]])) + 7.0
    np.testing.assert_array_equal(wrap(lambda row: likely_choices(row, 0.3))(logits), [[True, True, False, True]])


@few
@given(logits=several, threshold=st.floats(0, 0.99))
def test_the_likeliest_is_always_likely_enough_and_without_threshold_all_are(logits, threshold):
    logits = jnp.array(logits)
    assert likely_choices(logits, threshold)[jnp.argmax(logits)]
    assert likely_choices(logits, 0.0).all()


@wraps
def test_the_filter_is_strict(wrap):
    sampled = jnp.array([[1.0, 2.0, 3.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    np.testing.assert_array_equal(wrap(better_than_policy)(jnp.array([2.0, 2.0]), sampled), [1, 0])


def test_what_is_worth_nothing_may_be_impossible():
    log_prob, weight = jnp.array([-0.5, -jnp.inf, jnp.nan]), jnp.array([2.0, 0.0, 0.0])
    loss, slope = jax.value_and_grad(lambda each: jnp.sum(weighted_cloning_loss(each, weight)))(log_prob)
    assert loss == 1.0
    np.testing.assert_array_equal(slope, [-2, 0, 0])
    assert jax.grad(lambda worth: weighted_cloning_loss(-0.5, worth))(2.0) == 0


@pytest.mark.parametrize("samples", [3, 4, 7, 10])
@pytest.mark.parametrize("value", [0.1, -0.7, 1 / 3, 123.4])
def test_an_action_as_good_as_the_policys_does_not_pass_by_rounding(value, samples):
    """As where the policy takes nothing but that action, whose value the mean is only up to rounding."""
    value = np.float32(value)
    better = np.nextafter(value, np.float32(np.inf))
    assert better_than_policy(value, jnp.full(samples, value)) == 0
    assert better_than_policy(better, jnp.full(samples, value)) == 0
    assert better_than_policy(value + 1e-5 * abs(value), jnp.full(samples, value)) == 1
