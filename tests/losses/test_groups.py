"""Advantages from rewards alone: the sheet's numbers 8 and 9, sums, invariances, and groups that teach nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close

from maxent_rl import losses

group_advantages = jax.jit(losses.group_advantages, static_argnames=("scale", "leave_one_out"))
differing_groups = jax.jit(losses.differing_groups)
others_advantages = losses.others_advantages
whiten = jax.jit(losses.whiten, static_argnames="ddof")
EVEN, LONE = [[1.0, 0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0, 0.0]]
TRL, VERL, DR, RLOO = {"epsilon": 1e-4}, {}, {"scale": "none"}, {"scale": "none", "leave_one_out": True}
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
groups = st.lists(st.lists(st.integers(-8, 8), min_size=4, max_size=4), min_size=3, max_size=3).map(jnp.float32)


@wraps
@pytest.mark.parametrize(
    ("rewards", "form", "expected"),
    [
        (EVEN, TRL, [0.865875, -0.865875, -0.865875, 0.865875]),
        (EVEN, VERL, [0.866024, -0.866024, -0.866024, 0.866024]),
        (EVEN, DR, [0.5, -0.5, -0.5, 0.5]),
        (LONE, TRL, [1.499700, -0.499900, -0.499900, -0.499900]),
        (LONE, VERL, [1.499997, -0.499999, -0.499999, -0.499999]),
        (LONE, DR, [0.75, -0.25, -0.25, -0.25]),
        (LONE, RLOO, [1.0, -1 / 3, -1 / 3, -1 / 3]),
    ],
)
def test_worked_example_8(wrap, rewards, form, expected):
    found = wrap(lambda x: losses.group_advantages(x, **form))(jnp.array(rewards))
    np.testing.assert_allclose(found[0], expected, atol=1.1e-6)


@wraps
def test_worked_example_9(wrap):
    """REINFORCE++-baseline: less the group's mean, then whitened over the batch."""
    rewards = jnp.array([EVEN[0], [1.0, 1.0, 1.0, 0.0]])
    found = wrap(lambda x: losses.whiten(losses.group_advantages(x, "none")))(rewards)
    np.testing.assert_allclose(found.ravel(), [1, -1, -1, 1, 0.5, 0.5, 0.5, -1.5], atol=1e-5)


def test_batch_scale_takes_the_deviation_of_all_rewards_and_the_mean_of_the_group():
    rewards = np.array([EVEN[0], [3.0, 1.0, 1.0, 0.0]])
    centred = rewards - rewards.mean(-1, keepdims=True)
    np.testing.assert_allclose(
        group_advantages(rewards, "batch", 1e-4), centred / (rewards.std(ddof=1) + 1e-4), rtol=1e-5
    )


@pytest.mark.slow
@given(rewards=groups, shift=st.integers(-100, 100), factor=st.sampled_from([0.5, 2.0, 8.0]))
def test_sums_and_invariances(rewards, shift, factor):
    """Rewards of a group sum to 0, shifted they give the same; scaled only where a deviation is divided by."""
    deviation = np.std(rewards, axis=-1, ddof=1)
    for form in (TRL, VERL, DR, RLOO, {"scale": "batch"}):
        found = np.asarray(group_advantages(rewards, **form))
        np.testing.assert_allclose(found.sum(-1), 0.0, atol=2e-5)
        np.testing.assert_allclose(group_advantages(rewards + shift, **form), found, rtol=1e-4, atol=1e-4)
        scaled = group_advantages(factor * rewards, **form)
        grown = found if form.get("scale", "group") in ("group", "batch") else factor * found
        np.testing.assert_allclose(scaled, grown, rtol=1e-3, atol=1e-5)
    squares = np.square(group_advantages(rewards, **TRL)).sum(-1)
    np.testing.assert_allclose(squares, 3 * (deviation / (deviation + 1e-4)) ** 2, rtol=1e-4)
    np.testing.assert_allclose(
        group_advantages(rewards, **RLOO), 4 / 3 * group_advantages(rewards, **DR), rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
@given(value=st.floats(-1e4, 1e4, width=32), size=st.sampled_from([3, 7]))
def test_equal_rewards_teach_nothing_to_the_bit(value, size):
    """0.1 + 0.1 + 0.1 over 3 is not 0.1 in floating point, and the difference over a tiny deviation is not small."""
    rewards = jnp.full((2, size), value)
    for form in (TRL, RLOO, {"scale": "batch"}):
        assert np.all(group_advantages(rewards, **form) == 0)
    assert np.all(whiten(rewards) == 0)


def test_a_group_of_one_keeps_its_reward():
    rewards = jnp.array([[2.0], [-1.0]])
    for form in (DR, RLOO):
        np.testing.assert_array_equal(group_advantages(rewards, **form), rewards)
    np.testing.assert_allclose(group_advantages(rewards), rewards / (1 + 1e-6), rtol=1e-6)
    assert np.isfinite(group_advantages(rewards[:1], "batch")).all()


def test_no_gradient_and_unknown_scales():
    assert np.all(jax.grad(lambda x: group_advantages(x)[0, 0])(jnp.array(LONE)) == 0)
    with pytest.raises(ValueError, match="Unknown scale 'std'; there are group, batch, none"):
        group_advantages(jnp.array(LONE), "std")


@pytest.mark.parametrize("ddof", [0, 1])
def test_whitened_values_have_mean_0_and_variance_1(ddof):
    draw = np.random.default_rng(0)
    values, mask = draw.normal(3.0, 5.0, (6, 7)), draw.random((6, 7)) < 0.6
    found = np.asarray(whiten(np.where(mask, values, np.nan), mask, ddof=ddof))
    assert_close(found[mask].mean(), 0.0, scale=1.0)
    assert_close(found[mask].var(ddof=ddof), 1.0)
    assert np.all(found[~mask] == 0)
    np.testing.assert_allclose(whiten(2 * values + 7, mask, ddof=ddof), found, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1])
def test_one_value_has_no_variance(count):
    mask = np.arange(4) < count
    found, back = jax.vjp(lambda x: whiten(x, mask), jnp.array([3.0, np.nan, np.nan, np.inf]))
    assert np.all(found == 0) and np.isfinite(back(jnp.ones(4))[0]).all()


def test_advantages_over_the_others_by_hand():
    found = others_advantages([1.0, 2.0, 6.0, np.nan], [1, 1, 1, 0])
    np.testing.assert_allclose(found, [1 - 4, 2 - 3.5, 6 - 1.5, 0], rtol=1e-6)
    np.testing.assert_array_equal(others_advantages([5.0, np.nan], [1, 0]), [0.0, 0.0])
    np.testing.assert_array_equal(others_advantages([0.1, 0.1, 0.1], [1, 1, 1]), [0.0, 0.0, 0.0])
    slope = jax.grad(lambda paid: jnp.sum(others_advantages(paid, jnp.ones(3)) ** 2))(jnp.arange(3.0))
    assert not np.any(slope)
    rows = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    mapped = jax.jit(jax.vmap(others_advantages))(rows, jnp.ones((4, 6)))
    np.testing.assert_allclose(mapped, group_advantages(rows, scale="none", leave_one_out=True), atol=1e-5)


@pytest.mark.parametrize("value", [0.1, 1 / 3, -0.7, 1e6 + 0.1])
def test_rewards_that_differ_by_rounding_alone_are_equal(value):
    """As the same rewards are that were added in another order: their differences over a tiny deviation are not small."""
    value = np.float32(value)
    rewards = np.stack([np.array([value, np.nextafter(value, np.float32(np.inf))])[[0, 1, 1, 0, 1]]] * 2)
    for form in (TRL, VERL, DR, RLOO, {"scale": "batch"}):
        assert np.all(group_advantages(rewards, **form) == 0)
    assert np.all(whiten(rewards) == 0) and np.all(others_advantages(rewards[0], np.ones(5)) == 0)
    more = np.where(np.arange(5) == 2, rewards + 1e-5 * abs(rewards), rewards)
    assert np.all(np.sign(group_advantages(more)) == np.where(np.arange(5) == 2, 1, -1))


@pytest.mark.parametrize("rewards", [[0.1, 0.2, 0.3], [0.7, 1.4, 2.1], [0.1, 0.7, 0.4], [0.2, 0.5, 0.35]])
def test_the_reward_that_is_the_mean_of_its_group_has_no_sign(rewards):
    """Methods that treat punished responses in their own way look at nothing but the sign."""
    signs = np.sign(group_advantages(np.float32([rewards]))[0]).tolist()
    assert signs == np.sign(np.round(np.array(rewards) - np.mean(rewards), 6)).tolist() and 0 in signs


@pytest.mark.slow
@pytest.mark.parametrize("form", [TRL, VERL, DR, RLOO], ids=["trl", "verl", "dr", "rloo"])
def test_groups_of_any_size_in_any_order_are_each_what_they_are_alone(form):
    """By an index: groups of 1, 2, 3 and 4 samples, mixed up."""
    index = np.random.default_rng(0).permutation(np.repeat([7, -3, 0, 11], [1, 2, 3, 4]))
    rewards = np.random.default_rng(1).normal(size=10).astype(np.float32)
    found = np.asarray(group_advantages(rewards, group_index=index, **form))
    for group in np.unique(index):
        alone = losses.group_advantages(rewards[index == group], **form)
        assert_close(found[index == group], alone, scale=1.0)


@pytest.mark.slow
def test_an_index_of_equal_groups_is_a_table_of_them():
    rewards = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    index = np.repeat([2, 0, 1], 4)
    for form in (TRL, VERL, DR, RLOO, {"scale": "batch"}):
        found = group_advantages(rewards.ravel(), group_index=index, **form)
        assert_close(found.reshape(3, 4), group_advantages(rewards, **form), scale=1.0)
    with pytest.raises(
        ValueError, match=r"group_index for each of rewards \[sample\], got shapes \(12,\) and \(3, 4\)"
    ):
        losses.group_advantages(rewards, group_index=index)


@pytest.mark.slow
def test_a_sample_without_a_reward_counts_in_no_statistic():
    """The worked numbers of a group in which one could not be scored: mean and deviation of the other three."""
    rewards, mask = np.float32([[1.0, 0.0, np.nan, 1.0], [0, 0, 1, 1]]), np.array([[1, 1, 0, 1], [1, 1, 1, 1]])
    found = group_advantages(rewards, mask=mask, **TRL)
    np.testing.assert_allclose(found[0], [0.57725, -1.154501, 0.0, 0.57725], atol=1e-5)
    np.testing.assert_allclose(found[1], group_advantages(rewards[1:], **TRL)[0], rtol=1e-6)
    for form in (VERL, DR, RLOO, {"scale": "batch"}):
        table = group_advantages(rewards, mask=mask, **form)
        by_index = group_advantages(rewards.ravel(), mask=mask.ravel(), group_index=np.repeat([4, 1], 4), **form)
        assert_close(table.ravel(), by_index, scale=1.0)
        assert np.isfinite(table).all() and table[0, 2] == 0
    batch = group_advantages(rewards, scale="batch", mask=mask)
    deviation = np.nanstd(rewards, ddof=1)
    assert_close(batch[0], np.nan_to_num(rewards[0] - np.nanmean(rewards[0])) / (deviation + 1e-6))


def test_what_is_left_of_a_group_is_compared_with_nothing():
    """But a group that was one sample from the start keeps its reward."""
    mask = np.array([[0, 1, 0], [0, 0, 0]])
    for form in (TRL, DR, RLOO, {"scale": "batch"}):
        assert np.all(group_advantages(np.full((2, 3), 5.0), mask=mask, **form) == 0)
    found = group_advantages(np.float32([2.0, 7.0, 7.0]), mask=[1, 1, 0], group_index=[0, 1, 1], **DR)
    np.testing.assert_array_equal(found, [2.0, 0.0, 0.0])


def test_groups_differ_where_rewards_that_there_are_do():
    rewards = np.float32([[1, 1, 1], [0, 1, 1], [np.nan, 1, 1], [np.nan, 0, 1], [np.nan, np.nan, 1]])
    found = differing_groups(rewards, np.isfinite(rewards))
    np.testing.assert_array_equal(found, np.array([0, 1, 0, 1, 0], bool)[:, None] * np.ones(3, bool))
    index = np.repeat(np.arange(5), 3)
    by_index = differing_groups(rewards.ravel(), np.isfinite(rewards).ravel(), index)
    np.testing.assert_array_equal(by_index, found.ravel())
    alone = differing_groups(np.float32([[1.0], [np.nan]]), [[True], [False]])
    np.testing.assert_array_equal(alone, [[True], [False]])  # a group of one is kept, unless it has no reward


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e6, 1e25])
def test_rewards_of_any_size_have_the_advantages_of_their_order(size):
    """Squares of large rewards are beyond all numbers: a deviation that was infinite once made all advantages 0."""
    for form in ({"epsilon": 0.0}, {"epsilon": 0.0, "scale": "batch"}):
        found = group_advantages(np.float32(size) * np.float32(EVEN), **form)
        assert_close(found, group_advantages(np.float32(EVEN), **form))
