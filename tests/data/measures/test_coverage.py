"""Binning, hashing and counting state-action pairs; HyperLogLog against exact counts."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.measures import coverage
from maxent_rl.data.measures.coverage import Binning, Limits, PairCounter, bin_indices, count_pairs
from maxent_rl.data.measures.sketch import STANDARD_ERROR, Sketch
from maxent_rl.errors import DataError, InvalidSettingError, MissingDependencyError


def dataset(observation, action, ends=()):
    observation = np.asarray(observation, np.float32).reshape(len(action), -1)
    action = np.asarray(action)
    action = action.astype(np.int32) if action.ndim == 1 else action.astype(np.float32)
    terminated = np.isin(np.arange(len(action)), ends)
    reward = np.ones(len(action), np.float32)
    return Dataset(observation, action, reward, observation, terminated, np.zeros(len(action), bool))


def random_data(size=500, seed=0, discrete=True):
    rng = np.random.default_rng(seed)
    action = rng.integers(0, 3, size) if discrete else rng.uniform(-1, 1, (size, 2))
    return dataset(rng.normal(size=(size, 2)), action, (size - 1,))


def u(data, limits=None, edges=10, limit=coverage.EXACT_LIMIT):
    return count_pairs(data, Binning(limits or Limits.of(data), edges), limit).distinct().value


floats = st.floats(-1e6, 1e6, width=32)


@given(st.lists(floats, min_size=1, max_size=40), floats, floats, st.integers(2, 300))
@settings(max_examples=200, deadline=None)
def test_bins_are_those_of_numpy_digitize(values, first, second, edges):
    low, high = min(first, second), max(first, second)
    values = np.array([*values, low, high], np.float32)
    found = bin_indices(values, low, high, edges)
    np.testing.assert_array_equal(found, np.digitize(values.astype(np.float64), np.linspace(low, high, edges)))


def test_bins_run_from_one_to_a_hundred_and_the_highest_value_has_its_own():
    found = bin_indices(np.array([0.0, 0.5, 98.999, 99.0, -0.1, 1e9]), 0.0, 99.0)
    assert found.tolist() == [1, 1, 99, 100, 0, 100]


def test_a_constant_coordinate_falls_in_one_bin():
    assert len(set(bin_indices(np.full(7, 3.0, np.float32), 3.0, 3.0))) == 1
    assert u(dataset([[1.0, 5.0], [2.0, 5.0], [1.0, 5.0]], [0, 0, 0])) == 2


def test_values_beside_each_other_but_in_different_bins_are_told_apart_even_where_the_range_is_tiny():
    low, high = 1e-40, 2e-40
    values = np.linspace(low, high, 50).astype(np.float32)
    np.testing.assert_array_equal(bin_indices(values, low, high), np.digitize(values, np.linspace(low, high, 100)))


def test_pairs_are_those_of_rows_of_bins():
    """Against NumPy's unique rows, for discrete and for continuous actions."""
    for discrete in (True, False):
        data = random_data(2000, discrete=discrete)
        limits = Limits.of(data)
        columns = [*data.observation.T, *([] if discrete else data.action.T)]
        bins = [np.digitize(c, np.linspace(c.min(), c.max(), 10)) for c in columns] + (
            [data.action] if discrete else []
        )
        assert u(data, limits) == len(np.unique(np.stack(bins, axis=1), axis=0))
        assert len(limits.low) == (2 if discrete else 4)


def test_discrete_actions_are_taken_as_they_are():
    assert u(dataset([[0.0]] * 4, [0, 1, 1, 10_000])) == 3


def test_counts_know_neither_order_nor_repetition_and_the_union_is_no_larger_than_the_sum():
    first, second = random_data(seed=1), random_data(seed=2)
    limits = Limits.of([first, second])
    turned = dataclasses.replace(first, observation=first.observation[::-1], action=first.action[::-1])
    assert u(first, limits) == u(turned, limits) == u([first, first], limits)
    assert (
        max(u(first, limits), u(second, limits)) <= u([first, second], limits) <= u(first, limits) + u(second, limits)
    )
    assert 1 <= u(first, limits) <= first.size


def test_renaming_actions_changes_nothing():
    data = random_data()
    other = dataclasses.replace(data, action=np.array([2, 0, 1], np.int32)[data.action])
    assert u(data) == u(other)


def test_chunks_count_as_the_whole(monkeypatch):
    data = random_data(300, discrete=False)
    parts = [data.part(0, 7), data.part(7, 300)]
    for source in (parts, lambda: iter(parts)):
        np.testing.assert_array_equal(Limits.of(source).low, Limits.of(data).low)
        assert u(source) == u(data)
    monkeypatch.setattr("maxent_rl.data.datasets.passes._CHUNK", 11)
    assert u(data) == u(parts)


def test_what_cannot_be_measured_is_refused():
    data = random_data(10)
    with pytest.raises(DataError, match=r"pass over the data more than once.*got generator"):
        Limits.of(part for part in [data])
    with pytest.raises(DataError, match="no transitions"):
        Limits.of([])
    with pytest.raises(DataError, match="NaN or infinity"):
        Limits.of(dataset([[np.nan]], [0]))
    with pytest.raises(DataError, match="one has 2 entries of observations and discrete actions, the other 4 entries"):
        Binning(Limits.of(data)).keys(random_data(10, discrete=False))
    with pytest.raises(InvalidSettingError, match="--edges must be at least 2"):
        Binning(Limits.of(data), 1)


def keys(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def test_a_sketch_is_within_three_standard_errors_of_the_exact_count():
    for seed in range(3):
        counter, exact = PairCounter(exact_limit=1000), PairCounter()
        for part in np.split(np.concatenate([keys(100_000, seed), keys(100_000, seed)]), 10):
            counter.add(part), exact.add(part)
        assert not counter.exact and counter.size == 200_000 and exact.distinct() == (100_000, 0.0)
        value, error = counter.distinct()
        assert error == STANDARD_ERROR == pytest.approx(0.008125)
        assert abs(value - 100_000) <= 3 * error * 100_000


def test_a_sketch_of_bins_is_as_good_as_one_of_random_keys():
    """The keys of a full grid of bins are far from random before they are mixed."""
    axis = np.arange(60.0)
    grid = np.stack(np.meshgrid(axis, axis, [0.0, 30.0, 59.0]), axis=-1).reshape(-1, 3)
    data = dataset(np.repeat(grid, 5, axis=0), np.tile(np.arange(5), len(grid)))
    assert u(data, edges=60) == 54_000
    assert abs(u(data, edges=60, limit=0) - 54_000) <= 3 * STANDARD_ERROR * 54_000


def test_the_estimate_is_hyperloglogs():
    """alpha m^2 / sum 2^-M, of the sheet, where neither linear counting nor a bias correction is at work."""
    sketch = Sketch()
    sketch.add(keys(300_000))
    m = 2**14
    expected = 0.7213 / (1 + 1.079 / m) * m**2 / np.sum(2.0 ** -sketch.registers.astype(float))
    assert sketch.count() == pytest.approx(expected, rel=1e-12)


def test_registers_hold_what_the_packages_own_update_puts_there():
    from datasketch import HyperLogLogPlusPlus

    some = keys(3000)
    own, theirs = Sketch(), HyperLogLogPlusPlus(p=14, hashfunc=int)
    own.add(np.append(some, np.uint64(5)))  # nothing but zeros where its rank is read: the highest rank there is
    for key in [*some, 5]:
        theirs.update(key)
    np.testing.assert_array_equal(own.registers, theirs.digest())


def test_merging_is_counting_the_union():
    first, second, both = Sketch(), Sketch(), Sketch()
    first.add(keys(5000, 1)), second.add(keys(7000, 2))
    both.add(keys(7000, 2)), both.add(keys(5000, 1))
    np.testing.assert_array_equal(first.merged(second).registers, both.registers)
    assert first.merged(second).count() == both.count() > first.count()


def test_without_the_package_only_large_data_sets_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    assert u(random_data()) > 1
    with pytest.raises(MissingDependencyError, match=r"pip install 'maxent_rl\[offline\]'"):
        u(random_data(), limit=10)


def test_what_data_sets_share():
    first, second = PairCounter(), PairCounter()
    first.add(np.array([1, 1, 2, 3], np.uint64)), second.add(np.array([3, 2, 5, 6, 7], np.uint64))
    assert coverage.overlap(first, second) == (2 / 5, 2 / 3, 0.0)


def test_what_sketches_share_is_estimated_with_its_error():
    shared, first, second = keys(30_000), PairCounter(0), PairCounter()
    first.add(np.append(shared, keys(10_000, 1))), second.add(np.append(shared, keys(20_000, 2)))
    found = coverage.overlap(first, second)
    assert 0 < found.error < 0.02
    assert abs(found.of_reference - 0.6) <= 3 * found.error and abs(found.of_data - 0.75) <= 4 * found.error


def test_subsets_are_drawn_without_replacement_from_all_parts():
    whole = np.arange(1000, dtype=np.uint64)
    drawn = coverage.subsamples(np.split(whole, 10), 1000, 400, 3, np.random.default_rng(0))
    assert [counter.size for counter in drawn] == [400] * 3
    assert all(counter.distinct().value == 400 for counter in drawn)
    assert not np.array_equal(drawn[0].keys, drawn[1].keys)
    np.testing.assert_allclose(np.mean([counter.keys.mean() for counter in drawn]), 499.5, atol=40)


def test_collisions_are_unlikely():
    assert coverage.collision_probability(1e7) == pytest.approx(2.7e-6, rel=0.01)


def test_plugin_entropy_by_hand():
    entropy = coverage.plugin_entropy(np.array([5, 3, 1, 1]))
    assert entropy == pytest.approx(1.168282, abs=1e-6) and np.exp(entropy) == pytest.approx(3.216463, abs=1e-6)
    assert np.exp(coverage.plugin_entropy(np.full(7, 3))) == pytest.approx(7)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_perplexity_is_at_most_the_number_of_pairs(counts):
    perplexity = np.exp(coverage.plugin_entropy(np.array(counts)))
    equal = len(set(counts)) == 1
    assert (perplexity == pytest.approx(len(counts))) if equal else (perplexity < len(counts))
