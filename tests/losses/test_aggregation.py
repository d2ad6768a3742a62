"""From tokens to one number: the sheet's example 10, identities between the modes, empty masks, and what is masked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close

from maxent_rl import losses
from maxent_rl.losses import clipped_away, damped_temperature, masked_mean

aggregate = jax.jit(losses.aggregate, static_argnames=("mode", "rows", "divide_rows"))
masked_quantile = jax.jit(losses.masked_quantile)
masked_deviation = jax.jit(losses.masked_deviation)
LOSS = jnp.array([[-1.2, -1.0, -0.670320], [1.491825, jnp.nan, jnp.inf]])
MASK = jnp.array([[1, 1, 1], [1, 0, 0]])
MODES = ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])


@wraps
@pytest.mark.parametrize(
    ("mode", "settings", "expected"),
    [
        ("token-mean", {}, -0.344624),
        ("token-sum", {}, -1.378495),
        ("seq-mean-token-mean", {}, 0.267526),
        ("seq-mean-token-sum", {}, -0.689248),
        ("seq-mean-token-sum-norm", {}, -0.459498),
        ("seq-mean-token-sum-norm", {"divide_rows": True}, -0.229749),
        ("seq-mean-token-sum-norm", {"length": 6.0}, -0.459498 / 2),
        ("token-mean", {"count": 8}, -0.344624 / 2),
    ],
)
def test_worked_example_10(wrap, mode, settings, expected):
    found, slope = wrap(jax.value_and_grad(lambda x: losses.aggregate(x, MASK, mode, **settings)))(LOSS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.isfinite(slope).all() and np.all(slope[1, 1:] == 0)


@given(seed=st.integers(0, 100))
def test_with_one_token_in_each_row_all_modes_are_the_mean(seed):
    draw = np.random.default_rng(seed)
    values, mask = draw.normal(size=(4, 3)), np.eye(3, dtype=bool)[draw.integers(0, 3, 4)]
    for mode in MODES[:3]:
        np.testing.assert_allclose(aggregate(values, mask, mode), values[mask].mean(), rtol=1e-5, atol=1e-6)
    norm = aggregate(values, mask, MODES[3], length=1, divide_rows=True)
    np.testing.assert_allclose(norm, values[mask].mean(), rtol=1e-5, atol=1e-6)


def test_equal_lengths_weigh_tokens_alike():
    values = np.random.default_rng(0).normal(size=(4, 3))
    mask = np.ones((4, 3), bool)
    mean = values.mean()
    found = np.array([aggregate(values, mask, mode) for mode in MODES])
    assert_close(found, np.array([mean, mean, 3 * mean, 4 * mean]), scale=np.abs(values).mean())


def test_rows_without_tokens_count_or_do_not():
    """verl leaves them out of the number of rows, TRL does not."""
    values, mask = jnp.ones((4, 2)), jnp.array([[1, 1], [0, 0], [1, 0], [0, 0]])
    for mode, valid, every in zip(MODES[1:3], [1.0, 1.5], [0.5, 0.75], strict=True):
        np.testing.assert_allclose(aggregate(values, mask, mode), valid)
        np.testing.assert_allclose(aggregate(values, mask, mode, rows="all"), every)
    np.testing.assert_allclose(aggregate(values, mask, MODES[3], rows="all", divide_rows=True), 3 / 8)


@pytest.mark.parametrize("mode", [*MODES, "token-sum"])
def test_an_empty_mask_gives_0_and_no_gradient(mode):
    found, slope = jax.value_and_grad(aggregate)(jnp.full((2, 3), jnp.nan), jnp.zeros((2, 3)), mode)
    assert found == 0 and np.all(slope == 0)


def test_unknown_modes_are_named():
    with pytest.raises(ValueError, match="Unknown aggregation 'mean'; there are token-mean"):
        aggregate(LOSS, MASK, "mean")


@given(seed=st.integers(0, 100), quantile=st.floats(0, 1))
def test_the_quantile_is_that_of_numpy(seed, quantile):
    draw = np.random.default_rng(seed)
    values, mask = draw.normal(size=(3, 4)), draw.random((3, 4)) < 0.7
    mask[0, 0] = True
    found = masked_quantile(np.where(mask, values, np.nan), mask, quantile)
    np.testing.assert_allclose(found, np.quantile(values[mask], quantile), rtol=1e-4, atol=1e-5)


def test_mean_and_quantile_of_nothing():
    nothing = jnp.zeros(3, bool)
    for function in (masked_mean, lambda x, mask: masked_quantile(x, mask, 0.5)):
        value, slope = jax.jit(jax.value_and_grad(function))(jnp.array([jnp.nan, jnp.inf, 1.0]), nothing)
        assert value == 0 and np.all(slope == 0)
    assert masked_mean(jnp.array([jnp.nan, 2.0, 4.0]), jnp.array([0, 1, 1])) == 3.0


@given(
    ratio=st.floats(0.3, 2), advantage=st.sampled_from([-2.0, 0.0, 0.5]), low=st.floats(0, 0.5), high=st.floats(0, 0.5)
)
def test_clipped_away_says_which_bound_has_cut(ratio, advantage, low, high):
    expected = (ratio > 1 + high and advantage > 0) - (ratio < 1 - low and advantage < 0)
    if min(abs(ratio - 1 - high), abs(ratio - 1 + low)) > 1e-6:
        assert clipped_away(ratio, advantage, low, high) == expected


@pytest.mark.slow
@given(log_alpha=st.floats(-5, 2), entropy=st.floats(-10, 10))
def test_the_damped_temperature(log_alpha, entropy):
    """On target the temperature itself; too little entropy raises it and too much lowers it, by two nats at most."""
    found, slopes = jax.value_and_grad(damped_temperature, argnums=(0, 1))(log_alpha, entropy, 1.0)
    np.testing.assert_allclose(found, np.exp(log_alpha - np.clip(entropy - 1.0, -2, 2)), rtol=1e-5)
    np.testing.assert_allclose(slopes, [found, 0.0], rtol=1e-6)
    np.testing.assert_allclose(damped_temperature(log_alpha, entropy, 1.0, 0.0), np.exp(log_alpha), rtol=1e-5)


@given(value=st.floats(-1e4, 1e4, width=32), count=st.integers(1, 6))
def test_equal_values_do_not_deviate(value, count):
    """To the bit, whatever rounding makes of their mean; masked ones have no part."""
    mask = np.arange(6) < count
    found = masked_deviation(np.where(mask, np.float32(value), np.nan), mask)
    np.testing.assert_array_equal(found, np.zeros(6))
    values = np.where(mask, np.arange(6.0) + 1, np.inf)
    by_hand = np.where(mask, values - values[mask].mean(), 0.0)
    np.testing.assert_allclose(masked_deviation(values, mask), by_hand, atol=1e-6)
    assert np.all(masked_deviation(values, np.zeros(6, bool)) == 0)


@pytest.mark.parametrize("count", [11, 101, 1001])
def test_a_quantile_at_a_whole_place_is_the_value_there(count):
    """And not one just above it, from which that value would be left out."""
    values, shares = jnp.arange(count, dtype=jnp.float32), np.arange(count) / (count - 1)
    found = jax.vmap(lambda share: masked_quantile(values, values >= 0, share))(jnp.float32(shares))
    np.testing.assert_array_equal(found, values)


def test_a_value_at_the_mean_does_not_deviate_but_keeps_its_gradient():
    values = jnp.array([0.1, 0.2, 0.3])
    found, slopes = masked_deviation(values, jnp.ones(3)), jax.jacobian(masked_deviation)(values, jnp.ones(3))
    assert found[1] == 0
    np.testing.assert_allclose(slopes, np.eye(3) - 1 / 3, atol=1e-6)
