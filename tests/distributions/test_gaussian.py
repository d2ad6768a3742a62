"""The plain Gaussian and the categorical distribution, against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close

from maxent_rl.distributions import Categorical, Gaussian


def test_a_gaussian_matches_scipy():
    mean, log_std = jnp.array([0.5, -1.0, 3.0]), jnp.array([-1.0, 0.0, 0.7])
    policy, exact = Gaussian(mean, log_std), scipy.stats.norm(np.asarray(mean), np.exp(log_std))
    action, log_prob = policy.sample_and_log_prob(jax.random.key(0))
    np.testing.assert_array_equal(action, policy.sample(jax.random.key(0)))
    each = exact.logpdf(action)
    size = float(np.abs(each).sum())
    assert_close(log_prob, each.sum(), scale=size)
    assert_close(policy.log_prob(action), log_prob, scale=size)
    assert_close(policy.entropy(), exact.entropy().sum())
    np.testing.assert_array_equal(policy.mode(), mean)


def test_samples_of_a_gaussian_have_its_moments():
    policy = Gaussian(jnp.array([2.0]), jnp.array([-0.5]))
    draws = jax.vmap(policy.sample)(jax.random.split(jax.random.key(0), 20_000))
    assert abs(float(draws.mean()) - 2.0) < 4 * np.exp(-0.5) / np.sqrt(20_000)
    np.testing.assert_allclose(draws.std(), np.exp(-0.5), rtol=0.02)


@pytest.mark.slow
@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=6))
def test_a_categorical_matches_its_definition(logits):
    policy, logits = Categorical(jnp.float32(logits)), np.array(logits, np.float64)
    exact = scipy.special.log_softmax(logits)
    np.testing.assert_allclose(policy.log_probs, exact, rtol=1e-5, atol=1e-5)
    for choice in range(len(logits)):
        np.testing.assert_allclose(policy.log_prob(jnp.int32(choice)), exact[choice], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(policy.entropy(), -np.sum(np.exp(exact) * exact), rtol=1e-4, atol=1e-5)
    assert float(policy.entropy()) <= np.log(len(logits)) + 1e-5
    assert logits[int(policy.mode())] == logits.max()


def test_choices_that_are_ruled_out_are_never_drawn_and_cost_no_gradient():
    policy = Categorical(jnp.array([0.0, -jnp.inf, 1.0]))
    draws = jax.vmap(policy.sample)(jax.random.split(jax.random.key(0), 2_000))
    assert set(np.unique(draws)) == {0, 2}
    value, gradient = jax.value_and_grad(lambda logits: Categorical(logits).entropy())(policy.logits)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    np.testing.assert_allclose(value, scipy.stats.entropy(scipy.special.softmax([0.0, 1.0])), rtol=1e-5)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_shapes(batch):
    policy = Categorical(jnp.zeros((*batch, 5)))
    choice, log_prob = jax.jit(policy.sample_and_log_prob)(jax.random.key(0))
    assert choice.shape == log_prob.shape == policy.mode().shape == policy.entropy().shape == batch
    np.testing.assert_allclose(log_prob, -np.log(5), rtol=1e-6)
