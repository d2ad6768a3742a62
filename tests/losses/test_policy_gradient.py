"""The pathwise policy loss, and the score function's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.closeness import assert_close

from maxent_rl.distributions import TanhGaussian
from maxent_rl.losses import accumulated_rewards, generalized_advantages, policy_gradient_loss, soft_policy_loss


def test_value_and_gradients():
    np.testing.assert_allclose(soft_policy_loss(10.0, -3.0, 0.2), -10.6, rtol=1e-6)
    np.testing.assert_allclose(soft_policy_loss(3.0, -1.3, 0.2), -3.26, rtol=1e-6)  # PMOE, example A
    gradients = jax.grad(soft_policy_loss, argnums=(0, 1, 2))(10.0, -3.0, 0.2)
    np.testing.assert_allclose(gradients, [-1.0, 0.2, 0.0], rtol=1e-6)


@pytest.mark.slow
def test_closed_form_optimum_of_a_quadratic():
    """Sheet, check 9: without squashing and with Q = -k u^2 / 2 the optimum has variance alpha / k and mean 0."""
    k, alpha = 4.0, 0.0316954
    noise = jax.random.normal(jax.random.key(0), (4096,))
    noise = jnp.concatenate([noise, -noise]) / jnp.sqrt(jnp.mean(noise**2))  # of mean 0 and variance 1, not about so

    def loss(mean, log_std):
        u = mean + jnp.exp(log_std) * noise
        log_prob = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
        return jnp.mean(soft_policy_loss(-0.5 * k * u**2, log_prob, alpha))

    slopes = jax.grad(loss, argnums=(0, 1))(0.0, jnp.log(0.089016))
    assert_close(np.array(slopes), np.zeros(2), scale=k * 0.089016)  # that of k u, the slope of each sample


def test_gradient_flows_through_the_sample():
    def loss(mean):
        action, log_prob = TanhGaussian(mean, jnp.zeros(1)).from_noise(jnp.array([0.3]))
        return soft_policy_loss(-10 * jnp.sum((action - 0.9) ** 2), log_prob, 0.1)

    step = 1e-2
    numeric = (loss(jnp.array([0.2 + step])) - loss(jnp.array([0.2 - step]))) / (2 * step)
    np.testing.assert_allclose(jax.grad(loss)(jnp.array([0.2]))[0], numeric, rtol=1e-3)


def test_the_score_function_is_the_gradient_of_the_expected_return():
    """Summed over all actions by their probability, its slope is minus that of the expectation, whatever the baseline."""
    logits, paid = jnp.array([0.3, -0.2, 0.5]), jnp.array([1.0, 4.0, -2.0])
    exact = jax.grad(lambda logits: jax.nn.softmax(logits) @ paid)(logits)
    for baseline in (0.0, 7.5):

        def expected(logits, baseline=baseline):
            each = policy_gradient_loss(jax.nn.log_softmax(logits), paid - baseline)
            return jax.lax.stop_gradient(jax.nn.softmax(logits)) @ each

        assert_close(-jax.grad(expected)(logits), exact, scale=float(jnp.abs(paid - baseline).max()))
    slope = jax.grad(lambda paid: jnp.sum(policy_gradient_loss(jax.nn.log_softmax(logits), paid)))(paid)
    assert not np.any(slope)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_what_was_gained_and_what_is_to_come_make_the_whole_of_an_episode(seed):
    random = np.random.default_rng(seed)
    reward, done = random.normal(size=(9, 2)).astype(np.float32), random.random((9, 2)) < 0.3
    before = accumulated_rewards(reward, done)
    zeros = np.zeros_like(reward)
    after = generalized_advantages(reward, zeros, zeros, done, zeros, 1.0, 1.0)
    for column in range(2):
        first = 0
        for end in [*np.flatnonzero(done[:, column]).tolist(), 8]:
            whole = reward[first : end + 1, column].sum()
            found = (before + after)[first : end + 1, column] - reward[first : end + 1, column]
            np.testing.assert_allclose(found, whole, atol=1e-5)
            first = end + 1


def test_accumulated_rewards_by_hand_and_without_gradient():
    found = accumulated_rewards([[1.0], [2.0], [3.0], [4.0]], [[0], [1], [0], [0]])
    np.testing.assert_array_equal(found[:, 0], [1.0, 3.0, 3.0, 7.0])
    assert not np.any(jax.grad(lambda paid: jnp.sum(accumulated_rewards(paid, jnp.zeros(3))))(jnp.ones(3)))
