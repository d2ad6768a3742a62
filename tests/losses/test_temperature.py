"""The temperature losses: the sheet's example D, sign, fixed point, and what they leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxent_rl.losses import temperature_loss, temperature_loss_dual

LOG_PROB, TARGET_ENTROPY, LOG_ALPHA = jnp.array([-2.0, 1.0, 4.0]), -6.0, -1.6


@pytest.mark.parametrize(
    ("form", "loss", "gradient"),
    [(temperature_loss_dual, 1.009483, 1.009483), (temperature_loss, -8.0, 5.0)],
    ids=["dual", "log"],
)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_worked_example(form, loss, gradient, wrap):
    value, slope = wrap(jax.value_and_grad(lambda x: jnp.mean(form(x, LOG_PROB, TARGET_ENTROPY))))(LOG_ALPHA)
    np.testing.assert_allclose(value, loss, rtol=1e-5)
    np.testing.assert_allclose(slope, gradient, rtol=1e-5)


@pytest.mark.parametrize("form", [temperature_loss, temperature_loss_dual])
def test_adams_first_step_is_the_learning_rate(form):
    gradient = jax.grad(lambda x: jnp.mean(form(x, LOG_PROB, TARGET_ENTROPY)))(LOG_ALPHA)
    optimizer = optax.adam(3e-4)
    step, _ = optimizer.update(gradient, optimizer.init(jnp.array(LOG_ALPHA)))
    np.testing.assert_allclose(step, -3e-4, rtol=1e-4)


@pytest.mark.slow
@given(surplus=st.floats(0.125, 10, width=32), log_alpha=st.floats(-5, 5, width=32))
def test_sign(surplus, log_alpha):
    """Too little entropy raises the temperature, too much lowers it, none of either leaves it."""
    for form in (temperature_loss, temperature_loss_dual):
        slope = jax.grad(lambda x, log_prob, form=form: form(x, log_prob, -6.0))
        assert slope(log_alpha, 6.0 + surplus) < 0 < slope(log_alpha, 6.0 - surplus)
        assert slope(log_alpha, 6.0) == 0


@pytest.mark.parametrize("form", [temperature_loss, temperature_loss_dual])
def test_gradient_to_nothing_but_log_alpha(form):
    assert jax.grad(form, argnums=1)(LOG_ALPHA, 1.0, -6.0) == 0
    assert jax.grad(form, argnums=2)(LOG_ALPHA, 1.0, -6.0) == 0


def test_dual_gradient_is_alpha_times_the_other():
    log, dual = (jax.grad(form)(LOG_ALPHA, 1.0, -6.0) for form in (temperature_loss, temperature_loss_dual))
    np.testing.assert_allclose(dual, np.exp(LOG_ALPHA) * log, rtol=1e-5)


def test_vmap_over_seeds():
    values = jax.vmap(temperature_loss, in_axes=(0, 0, None))(jnp.array([0.0, 1.0]), jnp.ones((2, 3)), -6.0)
    np.testing.assert_allclose(values, [[0, 0, 0], [5, 5, 5]])
