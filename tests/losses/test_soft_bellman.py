"""The soft Bellman equation: the sheet's numbers, limits, gradients, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxent_rl.losses import critic_loss, soft_bellman_target, soft_value

finite = st.floats(-100, 100, width=32)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
def test_worked_example(wrap):
    target = wrap(lambda q1, q2: soft_bellman_target(1.0, 0.99, 0.0, jnp.minimum(q1, q2), -3.0, 0.2))
    value = target(jnp.array([10.0]), jnp.array([12.0]))
    np.testing.assert_allclose(value, [11.494], rtol=1e-5)


def test_n_step_discount():
    target = soft_bellman_target(jnp.array([2.71]), 0.9 ** jnp.array([3.0]), jnp.zeros(1), jnp.array([10.0]), 0.0, 0.2)
    np.testing.assert_allclose(target, [2.71 + 0.729 * 10], rtol=1e-5)


@given(reward=finite, q=finite, log_prob=finite)
def test_termination_or_no_discount_leave_the_reward(reward, q, log_prob):
    assert soft_bellman_target(reward, 0.99, 1.0, q, log_prob, 0.2) == np.float32(reward)
    assert soft_bellman_target(reward, 0.99, True, q, log_prob, 0.2) == np.float32(reward)
    assert soft_bellman_target(reward, 0.0, 0.0, q, log_prob, 0.2) == np.float32(reward)


def test_target_is_constant_in_everything():
    gradients = jax.grad(
        lambda *arguments: soft_bellman_target(arguments[0], 0.99, 0.0, *arguments[1:]), argnums=(0, 1, 2, 3)
    )(1.0, 10.0, -3.0, 0.2)
    np.testing.assert_array_equal(gradients, np.zeros(4))


@given(q=finite, target=finite)
def test_critic_loss_is_half_the_squared_error(q, target):
    expected = 0.5 * (np.float32(q) - np.float32(target)) ** 2
    np.testing.assert_allclose(
        critic_loss(q, target), expected, rtol=1e-5, atol=1e-37
    )  # XLA rounds what is below 1e-38 to 0


def test_critic_loss_gradients():
    in_q, in_target = jax.grad(critic_loss, argnums=(0, 1))(3.0, 1.0)
    assert in_q == 2.0 and in_target == 0.0
    step = 1e-2
    numeric = (critic_loss(3.0 + step, 1.0) - critic_loss(3.0 - step, 1.0)) / (2 * step)
    np.testing.assert_allclose(in_q, numeric, rtol=1e-3)


def test_nan_in_one_element_stays_there():
    q = jnp.array([1.0, jnp.nan, 2.0])
    assert np.isfinite(critic_loss(q, 0.0)).tolist() == [True, False, True]


def test_soft_value_equals_log_sum_exp_at_the_boltzmann_policy():
    """Sheet, check 10: V = alpha logsumexp(Q / alpha) is the soft value of pi proportional to exp(Q / alpha)."""
    q, alpha = jnp.array([1.0, -2.0, 0.5, 3.0]), 0.7
    log_prob = jax.nn.log_softmax(q / alpha)
    value = jnp.sum(jnp.exp(log_prob) * soft_value(q, log_prob, alpha))
    np.testing.assert_allclose(value, alpha * jax.nn.logsumexp(q / alpha), rtol=1e-5)


def test_empty_batch():
    assert critic_loss(jnp.zeros(0), jnp.zeros(0)).shape == (0,)
