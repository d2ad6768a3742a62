"""The temperature as a part: what its losses say, by Adam, however its state is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maxent_rl import losses
from maxent_rl.networks import Temperature

LOG_PROB = jnp.array([-2.0, 1.0, 4.0])
FORMS = {"log": losses.temperature_loss, "dual": losses.temperature_loss_dual}


@pytest.mark.slow
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("mode", FORMS)
def test_it_descends_its_loss_by_adam(mode, flat):
    rule, adam = Temperature(-6.0, 0.01, mode, flat=flat), optax.adam(0.01)
    log_alpha, optimizer = rule.init(0.2)
    expected, state = jnp.log(0.2), adam.init(jnp.log(0.2))
    for _ in range(3):
        log_alpha, optimizer, loss = jax.jit(rule.step)(log_alpha, optimizer, LOG_PROB)
        value, slope = jax.value_and_grad(lambda x: jnp.mean(FORMS[mode](x, LOG_PROB, -6.0)))(expected)
        step, state = adam.update(slope, state)
        expected = expected + step
        np.testing.assert_allclose(loss, value, rtol=1e-5)
    np.testing.assert_allclose(log_alpha, expected, rtol=1e-5)
    assert {np.shape(leaf) for leaf in jax.tree.leaves(optimizer)} == {(), (1,)} if flat else {()}
    np.testing.assert_allclose(rule.weight(log_alpha), np.exp(expected), rtol=1e-5)


def test_a_fixed_one_stays():
    rule = Temperature(-6.0, 0.01, "fixed")
    log_alpha, optimizer = rule.init(0.2)
    assert rule.step(log_alpha, optimizer, LOG_PROB) == (log_alpha, optimizer, None)


def test_the_weight_is_damped_where_the_entropy_is_known():
    found = Temperature(1.0).weight(jnp.log(0.2), jnp.float32(1.5))
    np.testing.assert_allclose(found, 0.2 * np.exp(-0.5), rtol=1e-6)
