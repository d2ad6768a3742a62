"""The router's losses: the sheet's worked examples, what each is least at, and which gradients they estimate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close

from maxent_rl.losses import gumbel_softmax, router_exact_loss, router_frequency_loss, router_score_loss

LOGITS = jnp.array([0.0, 0.5, -0.5])
WEIGHTS = np.array([0.307196, 0.506480, 0.186324])
COST = jnp.array([1.0, -2.0, 0.5])
EXTREME = [[80.0, -80.0, 0.0], [0.0, float(np.log(1e-30)), -80.0]]
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
logits_of_three = st.lists(st.floats(-80, 80, width=32), min_size=3, max_size=3).map(jnp.float32)

frequency_slope = jax.jit(jax.value_and_grad(router_frequency_loss))
score_slope = jax.jit(jax.grad(router_score_loss))
exact_slope = jax.jit(jax.grad(router_exact_loss))
gumbel = jax.jit(gumbel_softmax, static_argnames="hard")


@wraps
def test_worked_example_a(wrap):
    best = jnp.argmax(jnp.array([1.0, 3.0, 2.0]))
    loss, slope = wrap(jax.value_and_grad(router_frequency_loss))(LOGITS, best)
    np.testing.assert_allclose(jax.nn.softmax(LOGITS), WEIGHTS, atol=1e-5)
    np.testing.assert_allclose(loss, 0.124216, atol=1e-5)
    np.testing.assert_allclose(slope, [0.087667, -0.125826, 0.038159], atol=1e-5)


@pytest.mark.slow
def test_worked_example_c():
    """By descent on resampled winners the weights become the frequencies, neither a one-hot nor softmax of the means."""

    def step(index, logits):
        values = jnp.array([0.5, 0.0]) + jax.random.normal(jax.random.key(index), (1024, 2))
        slope = jax.grad(lambda x: jnp.mean(router_frequency_loss(x, jnp.argmax(values, axis=-1))))(logits)
        return logits - 2.0 / (1.0 + 0.02 * index) * slope

    weights = jax.nn.softmax(jax.lax.fori_loop(0, 400, step, jnp.zeros(2)))
    exact = scipy.stats.norm.cdf(0.5 / np.sqrt(2))
    np.testing.assert_allclose(exact, 0.638163, atol=1e-6)
    np.testing.assert_allclose(weights, [exact, 1 - exact], atol=0.005)


@given(logits=logits_of_three, best=st.integers(0, 2))
def test_frequency_loss_is_bounded_and_least_at_the_right_one_hot(logits, best):
    loss, slope = frequency_slope(logits, best)
    assert 0 <= loss <= 2 / 3 + 1e-6 and np.isfinite(slope).all()
    np.testing.assert_allclose(slope.sum(), 0.0, atol=1e-6)
    right = jnp.zeros(3).at[best].set(200.0)
    assert frequency_slope(right, best)[0] == 0.0
    np.testing.assert_allclose(frequency_slope(right, (best + 1) % 3)[0], 2 / 3, rtol=1e-6)


@pytest.mark.slow
@given(logits=logits_of_three, order=st.permutations(range(3)))
def test_permuting_experts_permutes_gradients(logits, order):
    order, best = jnp.array(order), 1
    loss, slope = frequency_slope(logits, best)
    moved, moved_slope = frequency_slope(logits[order], jnp.argmax(order == best))
    np.testing.assert_allclose(moved, loss, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(moved_slope, slope[order], rtol=1e-4, atol=1e-6)
    moved_slope, slope = exact_slope(logits[order], COST[order], 0.3), exact_slope(logits, COST, 0.3)
    np.testing.assert_allclose(moved_slope, slope[order], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_expected_frequency_loss_is_the_distance_to_the_frequencies_and_a_constant():
    """Sheet: E |v - w|^2 = |f - w|^2 + 1 - |f|^2, so the expected gradient is that of the distance; both divided by K."""
    shares = jnp.array([0.2, 0.7, 0.1])
    every = jnp.eye(3)

    def expected(logits):
        return jnp.sum(shares * router_frequency_loss(jnp.broadcast_to(logits, (3, 3)), jnp.arange(3)))

    def distance(logits):
        return jnp.mean((shares - jax.nn.softmax(logits)) ** 2)

    constant = (1 - jnp.sum(shares**2)) / len(every)
    assert_close(expected(LOGITS), distance(LOGITS) + constant)
    assert_close(jax.grad(expected)(LOGITS), jax.grad(distance)(LOGITS))
    # Each expert's part of the slope is as large as 2 f (1 - f) / K, 0.14 for the largest share; they cancel.
    assert_close(jax.grad(expected)(jnp.log(shares)), np.zeros(3), scale=0.14)


@wraps
def test_score_loss_is_unbiased(wrap):
    """Its gradient averaged over all choices by their weights is the exact one, whatever constant the costs hold."""
    for cost in (COST, COST + 100.0, jnp.zeros(3)):
        slopes = wrap(jax.vmap(jax.grad(router_score_loss), in_axes=(None, 0, None)))(LOGITS, jnp.arange(3), cost)
        exact = wrap(jax.grad(router_exact_loss))(LOGITS, cost)
        assert_close(jax.nn.softmax(LOGITS) @ slopes, exact, scale=1.0 + float(jnp.abs(cost).max()))


def test_score_loss_by_hand():
    """log w_1 times the cost's surplus over w . cost: -0.680271 * (-2 - (-0.612602)) = 0.943790."""
    expected_cost = WEIGHTS @ np.asarray(COST)
    by_hand = np.log(WEIGHTS[1]) * (-2.0 - expected_cost)
    np.testing.assert_allclose(router_score_loss(LOGITS, 1, COST), by_hand, rtol=1e-5)
    by_hand = (np.eye(3)[1] - WEIGHTS) * (-2.0 - expected_cost)
    assert_close(jax.grad(router_score_loss)(LOGITS, 1, COST), by_hand)


def test_exact_loss_by_hand():
    """w . cost, and the router's negative entropy on top."""
    assert_close(router_exact_loss(LOGITS, COST), WEIGHTS @ np.asarray(COST), scale=1.0)
    with_entropy = WEIGHTS @ (np.asarray(COST) + 0.2 * np.log(WEIGHTS))
    assert_close(router_exact_loss(LOGITS, COST, 0.2), with_entropy, scale=1.0)
    slope = jax.grad(router_exact_loss)(LOGITS, COST, 0.2)
    step = 1e-2 * jnp.eye(3)
    numeric = (router_exact_loss(LOGITS + step, COST, 0.2) - router_exact_loss(LOGITS - step, COST, 0.2)) / 2e-2
    np.testing.assert_allclose(slope, numeric, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_exact_loss_is_least_at_the_boltzmann_weights(temperature):
    """There it is -temperature logsumexp(-cost / temperature), with no gradient; any other weights cost more."""
    boltzmann = -COST / temperature
    least = -temperature * jax.nn.logsumexp(boltzmann)
    np.testing.assert_allclose(router_exact_loss(boltzmann, COST, temperature), least, rtol=1e-5)
    np.testing.assert_allclose(exact_slope(boltzmann, COST, temperature), np.zeros(3), atol=3e-6)
    others = boltzmann + jax.random.normal(jax.random.key(0), (50, 3))
    assert np.all(router_exact_loss(others, COST, temperature) > least)


def test_costs_and_temperature_are_constants():
    assert np.all(jax.grad(router_score_loss, argnums=2)(LOGITS, 1, COST) == 0)
    in_cost, in_temperature = jax.grad(router_exact_loss, argnums=(1, 2))(LOGITS, COST, 0.2)
    assert np.all(in_cost == 0) and in_temperature == 0


@pytest.mark.parametrize("logits", EXTREME)
def test_extreme_weights_keep_gradients_finite(logits):
    logits, noise = jnp.array(logits), jnp.array([0.1, -0.4, 2.0])
    for best in range(3):
        loss, slope = frequency_slope(logits, best)
        assert np.isfinite(loss) and np.isfinite(slope).all()
        assert np.isfinite(score_slope(logits, best, COST)).all()
    for temperature in (0.0, 1.0):
        assert np.isfinite(exact_slope(logits, COST, temperature)).all()
    for relaxation in (0.05, 1.0):
        for hard in (False, True):
            slope = jax.grad(lambda x, r=relaxation, h=hard: gumbel(x, noise, r, hard=h) @ COST)(logits)
            assert np.isfinite(slope).all()


def test_a_settled_router_with_the_right_winner_has_no_gradient():
    np.testing.assert_allclose(frequency_slope(jnp.array([80.0, 0.0, -80.0]), 0)[1], np.zeros(3), atol=1e-12)


@given(seed=st.integers(0, 1000), relaxation=st.floats(0.05, 10))
def test_gumbel_weights_sum_to_one_and_hard_ones_are_one_hot(seed, relaxation):
    noise = jax.random.gumbel(jax.random.key(seed), (16, 3))
    soft, hard = (np.asarray(gumbel(LOGITS, noise, relaxation, hard=hard)) for hard in (False, True))
    np.testing.assert_allclose(soft.sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(hard, np.eye(3)[np.argmax(LOGITS + noise, axis=-1)])


def test_straight_through_has_the_gradient_of_the_soft_weights():
    noise = jax.random.gumbel(jax.random.key(0), (16, 3))
    slopes = [
        jax.grad(lambda x, h=hard: jnp.sum(gumbel(x, noise, 0.7, hard=h) @ COST))(LOGITS) for hard in (False, True)
    ]
    assert_close(*slopes)
    assert np.abs(slopes[0]).max() > 0.1


def test_gumbel_choices_follow_the_softmax_of_the_logits():
    """Of the logits, not of the softmax once more: within four standard errors, and the same for shifted logits."""
    count = 40_000
    noise = jax.random.gumbel(jax.random.key(0), (count, 3))
    for shift in (0.0, 5.0):
        shares = np.asarray(gumbel(LOGITS + shift, noise, 1.0, hard=True)).mean(0)
        assert np.all(np.abs(shares - WEIGHTS) < 4 * np.sqrt(WEIGHTS * (1 - WEIGHTS) / count))


def test_gumbel_limits_of_the_relaxation():
    noise = jax.random.gumbel(jax.random.key(0), (16, 3))
    cold, hot = gumbel(LOGITS, noise, 1e-4), gumbel(LOGITS, noise, 1e6)
    np.testing.assert_allclose(cold, gumbel(LOGITS, noise, 1.0, hard=True), atol=1e-5)
    np.testing.assert_allclose(hot, np.full((16, 3), 1 / 3), atol=1e-4)
    np.testing.assert_allclose(gumbel(LOGITS, jnp.zeros(3), 1.0), WEIGHTS, atol=1e-5)


@pytest.mark.slow
def test_vmap_and_batches_equal_single_values():
    logits = jax.random.normal(jax.random.key(0), (5, 3))
    cost, noise = jax.random.normal(jax.random.key(1), (2, 5, 3))
    best = jnp.array([0, 1, 2, 1, 0])
    cases = [
        (router_frequency_loss, (logits, best)),
        (router_score_loss, (logits, best, cost)),
        (lambda *arguments: router_exact_loss(*arguments, 0.2), (logits, cost)),
        (lambda *arguments: gumbel_softmax(*arguments, 0.5, hard=True), (logits, noise)),
    ]
    for function, arguments in cases:
        batched, mapped = function(*arguments), jax.vmap(function)(*arguments)
        single = np.stack([function(*(each[index] for each in arguments)) for index in range(5)])
        np.testing.assert_allclose(batched, single, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(mapped, single, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_one_expert_has_nothing_to_learn():
    """K = 1: the weight is 1 and the loss and all gradients are 0, to the bit."""
    logits = jnp.array([0.7])
    loss, slope = jax.value_and_grad(router_frequency_loss)(logits, 0)
    assert loss == 0 and slope == 0
    assert jax.grad(router_score_loss)(logits, 0, COST[:1]) == 0
    assert jax.grad(router_exact_loss)(logits, COST[:1], 0.2) == 0
    assert gumbel_softmax(logits, jnp.ones(1), 0.5) == 1
