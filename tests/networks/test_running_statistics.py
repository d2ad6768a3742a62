"""Running statistics at every size: tiny, large, and so large that squares of numbers overflow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl.networks import RewardScale, RunningStatistics

SIZES = [1e-17, 1e-10, 1e-5, 1e-3, 1.0, 1e5, 1e10, 1e15, 1e18]
add = jax.jit(lambda statistics, rows: statistics.add(rows))
normalize = jax.jit(lambda statistics, rows: statistics.normalize(rows))
RNG = np.random.default_rng(0)
ROWS = RNG.normal(3.0, [1.0, 2.0, 0.5], (600, 3)).astype(np.float32)


def seen(rows: np.ndarray) -> RunningStatistics:
    """After three batches."""
    statistics = RunningStatistics.create(rows.shape[1:])
    for batch in np.split(rows, 3):
        statistics = add(statistics, batch)
    return statistics


@pytest.mark.parametrize("size", SIZES)
def test_scores_do_not_depend_on_the_unit(size: float) -> None:
    rows = (size * ROWS.astype(np.float64)).astype(np.float32)
    wanted = (ROWS - ROWS.mean(axis=0, dtype=np.float64)) / ROWS.std(axis=0, dtype=np.float64)
    assert_close(normalize(seen(rows), rows), np.clip(wanted, -10, 10), rtol=1e-4)


def test_entries_of_very_different_units_are_scaled_each_by_its_own() -> None:
    """A current of some 1e-5 A beside a temperature of some degrees."""
    units = np.array([1e-5, 1.0, 5.0])
    rows = (ROWS * units).astype(np.float32)
    scores = normalize(seen(rows), rows)
    assert_close(np.std(scores, axis=0), np.ones(3), rtol=1e-3)


@pytest.mark.parametrize("size", [1e19, 1e20, 1e30])
def test_beyond_what_float32_can_square_scores_are_finite_and_keep_order(size: float) -> None:
    rows = (size * ROWS.astype(np.float64)).astype(np.float32)
    statistics = seen(rows)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(statistics))
    scores = np.asarray(normalize(statistics, rows))
    assert np.isfinite(scores).all() and np.all(np.std(scores, axis=0) > 0.5)
    for column in range(3):
        assert np.all(np.diff(scores[np.argsort(rows[:, column], kind="stable"), column]) >= 0)


def test_a_large_entry_does_not_hide_small_ones() -> None:
    rows = (ROWS * np.array([1e25, 1.0, 1e-2])).astype(np.float32)
    scores = normalize(seen(rows), rows)
    assert_close(np.std(scores, axis=0)[1:], np.ones(2), rtol=1e-3)


@pytest.mark.parametrize("constant", [0.0, 1.0, -7.3, 1e-6, 1234.567, 1e6, 1e20])
def test_a_constant_entry_is_no_news_whatever_its_size(constant: float) -> None:
    rows = np.concatenate([ROWS, np.full((600, 1), constant)], axis=1).astype(np.float32)
    scores = np.asarray(normalize(seen(rows), rows))
    assert np.abs(scores[:, 3]).max() < 0.1


def test_rounding_of_single_precision_is_no_news_either() -> None:
    """What a simulation in float32 leaves in an entry that ought to stand still, beside one that moves by 10."""
    noise = 1e-7 * RNG.normal(size=(600, 1))
    rows = np.concatenate([10.0 * ROWS, noise], axis=1).astype(np.float32)
    assert np.abs(np.asarray(normalize(seen(rows), rows))[:, 3]).max() < 0.1


def old_scores(statistics: RunningStatistics, rows: jax.Array) -> jax.Array:
    """The formula where nothing was wrong with it."""
    return jnp.clip((rows - statistics.mean) / jnp.sqrt(jnp.maximum(statistics.variance, 1e-6)), -10.0, 10.0)


def test_at_ordinary_sizes_scores_are_what_they_always_were_to_the_bit() -> None:
    statistics = seen(ROWS)
    np.testing.assert_array_equal(statistics.normalize(ROWS), old_scores(statistics, ROWS))


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1.0, 1e6, 1e12, 1e16])
def test_rewards_are_scaled_whatever_their_unit(size: float) -> None:
    reward, done = RNG.normal(0.5, 1.0, (200, 4)), np.zeros((200, 4), np.float32)
    paid = (size * reward).astype(np.float32)
    scale = jax.jit(lambda reward: RewardScale.create(4).add(reward, done, 0.9))(paid)
    deviation = float(np.sqrt(np.float64(scale.statistics.variance)))
    assert_close(scale.scale(paid), np.clip(paid / deviation, -10, 10), rtol=0.01)
    assert 0.1 < np.std(np.asarray(scale.scale(paid))) < 1.0


@pytest.mark.slow
def test_rewards_beyond_what_float32_can_square_are_scaled_to_ten_at_most() -> None:
    paid = np.array([[1e20, -1e20], [2e20, 1e20]], np.float32)
    scale = RewardScale.create(2).add(jnp.asarray(paid), jnp.zeros((2, 2)), 0.9)
    scaled = np.asarray(scale.scale(jnp.asarray(paid)))
    assert np.isfinite(scaled).all() and np.all(np.sign(scaled) == np.sign(paid)) and np.abs(scaled).max() <= 10


def test_no_reward_at_all_stays_none() -> None:
    scale = RewardScale.create(2).add(jnp.zeros((5, 2)), jnp.zeros((5, 2)), 0.9)
    np.testing.assert_array_equal(scale.scale(jnp.zeros(3)), np.zeros(3))


def test_at_ordinary_sizes_the_reward_scale_is_what_it_always_was_to_the_bit() -> None:
    for variance in np.float32([1e-6, 1e-3, 0.01, 0.37, 1.0, 1e4]):
        statistics = RunningStatistics(jnp.float32(9), jnp.float32(0), jnp.asarray(variance))
        reward = jnp.asarray(ROWS[:, 0])
        expected = jnp.clip(reward / jnp.sqrt(variance + jnp.float32(1e-8)), -10.0, 10.0)
        np.testing.assert_array_equal(RewardScale(statistics, jnp.zeros(1)).scale(reward), expected)


@pytest.mark.slow
def test_what_goes_beyond_them_is_left_alone() -> None:
    rows = jnp.asarray(np.random.default_rng(0).normal(3.0, 2.0, (4, 5, 6)), jnp.float32)
    covering, own = RunningStatistics.create((2,)).add(rows), RunningStatistics.create((2,)).add(rows[..., :2])
    for name in ("count", "mean", "variance"):
        np.testing.assert_array_equal(getattr(covering, name), getattr(own, name))
    np.testing.assert_array_equal(covering.normalize(rows)[..., :2], own.normalize(rows[..., :2]))
    np.testing.assert_array_equal(covering.normalize(rows)[..., 2:], rows[..., 2:])
