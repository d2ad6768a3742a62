"""The tanh-Gaussian against the sheet's numbers, quadrature and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close

from maxent_rl.distributions import TanhGaussian, log_abs_det_tanh


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_worked_example_a(wrap):
    policy = TanhGaussian(jnp.array([0.5, -1.0]), jnp.array([-1.0, 0.0]))
    action, log_prob = wrap(policy.from_noise)(jnp.array([1.2, -0.3]))
    np.testing.assert_allclose(action, [0.735890, -0.861723], rtol=1e-5)
    assert_close(log_prob, 0.533988, scale=1.0)  # a sum of terms of that size and of both signs
    np.testing.assert_allclose(policy.log_prob(action), 0.533988, rtol=1e-4)


@pytest.mark.parametrize(("u", "expected"), [(3, -4.618657), (8, -14.613706), (12, -22.613706), (20, -38.613706)])
def test_worked_example_b(u, expected):
    np.testing.assert_allclose(log_abs_det_tanh(jnp.float32(u)), expected, rtol=1e-5)
    np.testing.assert_allclose(log_abs_det_tanh(jnp.float32(-u)), expected, rtol=1e-5)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (1.5, -1.0), (-0.3, 1.0), (2.0, 0.5)])
def test_integrates_to_one(mean, log_std):
    """Quadrature over the action in (-1, 1), substituted by u = arctanh(a): da = (1 - tanh(u)^2) du."""
    policy = TanhGaussian(jnp.float32([mean]), jnp.float32([log_std]))
    u = np.linspace(mean - 10 * np.exp(log_std), mean + 10 * np.exp(log_std), 20_001)
    log_prob = jax.vmap(policy.log_prob_pre_tanh)(jnp.float32(u)[:, None])
    density = np.exp(np.asarray(log_prob, np.float64) + np.asarray(log_abs_det_tanh(jnp.float32(u)), np.float64))
    np.testing.assert_allclose(scipy.integrate.simpson(density, x=u), 1.0, atol=1e-5)


@pytest.mark.parametrize("u", [-10.0, -3.0, 0.0, 2.0, 10.0])
def test_matches_scipy(u):
    """At |u| = 10 too: scipy's normal density in float64 less the exact log(1 - tanh^2) = -2 log cosh."""
    mean, log_std = 1.0, 0.7
    exact = scipy.stats.norm.logpdf(u, mean, np.exp(log_std)) + 2 * (np.logaddexp(u, -u) - np.log(2))
    policy = TanhGaussian(jnp.float32([mean]), jnp.float32([log_std]))
    np.testing.assert_allclose(policy.log_prob_pre_tanh(jnp.float32([u])), exact, rtol=1e-5)


@pytest.mark.slow
@given(u=st.floats(-50, 50, width=32))
def test_value_and_gradient_are_finite(u):
    policy = TanhGaussian(jnp.zeros(1), jnp.zeros(1))
    value, gradient = jax.value_and_grad(lambda x: policy.log_prob_pre_tanh(x[None]))(jnp.float32(u))
    assert np.isfinite(value) and np.isfinite(gradient)


@pytest.mark.slow
@given(mean=st.floats(-20, 20), log_std=st.floats(-20, 2))
def test_gradients_of_the_sampled_log_probability_are_finite(mean, log_std):
    def log_prob(mean, log_std):
        return TanhGaussian(mean[None], log_std[None]).from_noise(jnp.array([1.3]))[1]

    gradients = jax.grad(log_prob, argnums=(0, 1))(jnp.float32(mean), jnp.float32(log_std))
    assert np.isfinite(gradients).all()


def test_sample_matches_sample_and_log_prob():
    policy, key = TanhGaussian(jnp.zeros((3, 2)), jnp.zeros((3, 2))), jax.random.key(1)
    action, log_prob = policy.sample_and_log_prob(key)
    np.testing.assert_array_equal(policy.sample(key), action)
    assert log_prob.shape == (3,) and action.shape == (3, 2)
    np.testing.assert_array_equal(policy.entropy(key), -log_prob)


def test_entropy_is_at_most_that_of_the_uniform_distribution():
    """Sheet, check 8, by Monte Carlo for a wide, a flat and a narrow policy of one dimension."""
    keys = jax.random.split(jax.random.key(0), 4096)
    for log_std in (-1.0, -0.13, 1.5):
        policy = TanhGaussian(jnp.zeros(1), jnp.full(1, log_std))
        estimate = jnp.mean(jax.vmap(policy.entropy)(keys))
        assert estimate < np.log(2) + 0.01


def test_mode_and_clipped_edge():
    policy = TanhGaussian(jnp.array([0.5]), jnp.array([0.0]))
    np.testing.assert_allclose(policy.mode(), [np.tanh(0.5)], rtol=1e-5)
    assert np.isfinite(policy.log_prob(jnp.array([1.0]))) and np.isfinite(policy.log_prob(jnp.array([-1.0])))


def test_vmap_equals_single():
    mean = jax.random.normal(jax.random.key(0), (4, 2))
    keys = jax.random.split(jax.random.key(1), 4)
    many = jax.vmap(lambda m, k: TanhGaussian(m, jnp.zeros(2)).sample(k))(mean, keys)
    for index in range(4):
        assert_close(many[index], TanhGaussian(mean[index], jnp.zeros(2)).sample(keys[index]), scale=1.0)


def test_pre_tanh_is_what_is_squashed():
    """mean + deviation * noise; its density is exact where the action itself rounds to the edge of the box."""
    policy = TanhGaussian(jnp.array([0.5, 30.0]), jnp.array([-1.0, 0.0]))
    noise = jnp.array([1.2, -0.3])
    np.testing.assert_allclose(policy.pre_tanh(noise), [0.5 + 1.2 * np.exp(-1.0), 29.7], rtol=1e-6)
    action, log_prob = policy.from_noise(noise)
    np.testing.assert_array_equal(jnp.tanh(policy.pre_tanh(noise)), action)
    np.testing.assert_allclose(policy.log_prob_pre_tanh(policy.pre_tanh(noise)), log_prob, rtol=1e-5)
    slope = jax.jacobian(lambda mean: TanhGaussian(mean, policy.log_std).pre_tanh(noise))(policy.mean)
    np.testing.assert_array_equal(slope, np.eye(2))


def test_the_divergence_is_that_of_the_gaussians():
    """REPPO, check 4; and the mean of the differences of log-probabilities of its own samples."""
    one = TanhGaussian(jnp.zeros(1), jnp.log(jnp.array([0.5])))
    other = TanhGaussian(jnp.array([0.1]), jnp.log(jnp.array([0.6])))
    np.testing.assert_allclose(one.divergence(other), 0.043433, atol=1e-6)
    np.testing.assert_allclose(one.divergence(one), 0.0, atol=1e-7)
    pre_tanh = one.pre_tanh(jax.random.normal(jax.random.key(0), (100_000, 1)))
    samples = one.log_prob_pre_tanh(pre_tanh) - other.log_prob_pre_tanh(pre_tanh)
    np.testing.assert_allclose(jnp.mean(samples), 0.043433, atol=4 * float(jnp.std(samples)) / 100_000**0.5)
