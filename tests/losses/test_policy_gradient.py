"""The pathwise policy loss."""

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.distributions import TanhGaussian
from maxent_rl.losses import soft_policy_loss


def test_value_and_gradients():
    np.testing.assert_allclose(soft_policy_loss(10.0, -3.0, 0.2), -10.6, rtol=1e-6)
    np.testing.assert_allclose(soft_policy_loss(3.0, -1.3, 0.2), -3.26, rtol=1e-6)  # PMOE, example A
    gradients = jax.grad(soft_policy_loss, argnums=(0, 1, 2))(10.0, -3.0, 0.2)
    np.testing.assert_allclose(gradients, [-1.0, 0.2, 0.0], rtol=1e-6)


def test_closed_form_optimum_of_a_quadratic():
    """Sheet, check 9: without squashing and with Q = -k u^2 / 2 the optimum has variance alpha / k and mean 0."""
    k, alpha = 4.0, 0.0316954
    noise = jax.random.normal(jax.random.key(0), (4096,))
    noise = jnp.concatenate([noise, -noise]) / jnp.std(noise)

    def loss(mean, log_std):
        u = mean + jnp.exp(log_std) * noise
        log_prob = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
        return jnp.mean(soft_policy_loss(-0.5 * k * u**2, log_prob, alpha))

    slopes = jax.grad(loss, argnums=(0, 1))(0.0, jnp.log(0.089016))
    np.testing.assert_allclose(slopes, [0.0, 0.0], atol=2e-5)


def test_gradient_flows_through_the_sample():
    def loss(mean):
        action, log_prob = TanhGaussian(mean, jnp.zeros(1)).from_noise(jnp.array([0.3]))
        return soft_policy_loss(-10 * jnp.sum((action - 0.9) ** 2), log_prob, 0.1)

    step = 1e-2
    numeric = (loss(jnp.array([0.2 + step])) - loss(jnp.array([0.2 - step]))) / (2 * step)
    np.testing.assert_allclose(jax.grad(loss)(jnp.array([0.2]))[0], numeric, rtol=1e-3)
