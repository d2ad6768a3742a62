"""Estimators of a divergence: the sheet's numbers, what they estimate, and where their gradients pull."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close, rounding

from maxent_rl.losses import kl_estimate

POLICY, REFERENCE = jnp.array([0.5, 0.3, 0.2]), jnp.array([0.4, 0.4, 0.2])
LOGITS = jnp.log(POLICY)
NAMES = ["k1", "k2", "k3", "abs", "k1+", "k3+", "abs+"]
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
nats = st.floats(-40, 0, width=32)


def divergence(left, right):
    return jnp.sum(jax.nn.softmax(left) * (jax.nn.log_softmax(left) - jax.nn.log_softmax(right)))


def expected_gradient(estimator):
    """The mean over the policy's own choices of the gradient in its logits, with the choices held fixed."""

    def estimates(logits):
        return kl_estimate(jax.nn.log_softmax(logits), jnp.log(REFERENCE), estimator)

    return POLICY @ jax.jit(jax.jacobian(estimates))(LOGITS)


@wraps
@pytest.mark.parametrize(
    ("reference", "values"),
    [(-1.5, {"k1": 0.5, "k2": 0.125, "k3": 0.106531, "abs": 0.5}), (-0.5, {"k1": -0.5, "k2": 0.125, "k3": 0.148721})],
)
def test_worked_example_12(wrap, reference, values):
    for name, value in values.items():
        np.testing.assert_allclose(wrap(lambda x, n=name: kl_estimate(x, reference, n))(-1.0), value, atol=1e-5)


def test_k1_and_k3_are_unbiased_and_k2_to_second_order():
    exact = divergence(LOGITS, jnp.log(REFERENCE))
    np.testing.assert_allclose(exact, 0.025267, atol=1e-5)
    for name, mean in {"k1": exact, "k3": exact, "k2": 0.024862}.items():
        np.testing.assert_allclose(POLICY @ kl_estimate(LOGITS, jnp.log(REFERENCE), name), mean, atol=1e-5)


def test_expected_gradients():
    """On fixed samples: none of k1, KL(pi || ref) of k2 and of every + variant, KL(ref || pi) of k3."""
    reference = jnp.log(REFERENCE)
    forwards = jax.grad(divergence)(LOGITS, reference)
    backwards = jax.grad(divergence, argnums=1)(reference, LOGITS)
    assert_close(expected_gradient("k1"), np.zeros(3), scale=0.25)  # p (1 - p), which the other choices take away
    for name in ("k2", "k1+", "k3+", "abs+"):
        np.testing.assert_allclose(expected_gradient(name), forwards, atol=1e-6)
    np.testing.assert_allclose(expected_gradient("k3"), backwards, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["k1", "k3", "abs"])
@given(log_prob=nats, reference=nats)
def test_plus_has_the_value_of_its_estimator_and_the_gradient_of_k2(name, log_prob, reference):
    value, slope = jax.value_and_grad(kl_estimate)(log_prob, reference, name + "+", 10.0)
    np.testing.assert_allclose(value, kl_estimate(log_prob, reference, name, 10.0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(slope, log_prob - reference, rtol=1e-5, atol=1e-6)


@given(log_prob=nats, reference=nats)
def test_signs(log_prob, reference):
    difference = reference - log_prob
    for name in ("k2", "k3", "abs"):
        value = kl_estimate(log_prob, reference, name)
        assert value >= -1e-9
        assert value > 0 or abs(difference) < 1e-3
        assert kl_estimate(log_prob, log_prob, name) == 0


def test_small_divergences_are_not_lost():
    """k3 of a policy that has hardly moved is d^2 / 2, which exp(d) - d - 1 in single precision is not."""
    small = jnp.array([1e-3, 1e-4, -1e-4, 1e-5])
    # One rounding of expm1(d), less than SINGLE d, is up to 2 SINGLE / d of d^2 / 2: 2.4 % of the smallest.
    by_hand = small**2 / 2
    assert np.all(np.abs(kl_estimate(-small, 0.0, "k3") - by_hand) < rounding(2) * np.abs(small) + 1e-3 * by_hand)


def test_clamps():
    """Nothing becomes infinite. Beyond 20 nats the policy is still pulled back; beyond a clamp that is asked for it is not."""
    value, slope = jax.value_and_grad(kl_estimate)(-1e4, 0.0, "k3")
    np.testing.assert_allclose(value, np.expm1(20.0) - 20.0, rtol=1e-5)
    np.testing.assert_allclose(slope, -np.expm1(20.0), rtol=1e-5)
    assert jax.value_and_grad(kl_estimate)(-5.0, 0.0, "k3", 10.0) == (10.0, 0.0)
    assert jax.value_and_grad(kl_estimate)(0.0, -30.0, "k3", 10.0) == (10.0, 0.0)
    np.testing.assert_allclose(jax.grad(kl_estimate)(0.0, -30.0, "k3"), 1.0, rtol=1e-6)
    np.testing.assert_allclose(kl_estimate(-1.0, -0.5, "k3", 10.0), 0.148721, atol=1e-5)


def test_the_derivative_of_the_absolute_difference():
    slopes = [jax.grad(kl_estimate)(-1.0, reference, "abs") for reference in (-2.0, -1.0, 0.0)]
    np.testing.assert_array_equal(slopes, [1.0, 0.0, -1.0])


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_constant_and_vmap_equals_single_values(name):
    assert jax.grad(kl_estimate, argnums=1)(-1.0, -0.4, name) == 0
    log_probs, references = jnp.array([-1.0, -2.0, -0.1]), jnp.array([-1.5, -0.3, -0.1])
    mapped = jax.vmap(lambda x, y: kl_estimate(x, y, name))(log_probs, references)
    assert_close(mapped, kl_estimate(log_probs, references, name))


def test_unknown_estimators_are_named():
    with pytest.raises(ValueError, match=r"Unknown estimator 'k4'; there are k1, k2, k3"):
        kl_estimate(-1.0, -1.0, "k4")
