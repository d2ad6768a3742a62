"""Windows of logged steps: what stands in them, that none crosses an episode's end, and what is padded."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxent_rl.data.batches.windows import EpisodeWindows
from maxent_rl.data.datasets.dataset import Dataset

around = jax.jit(lambda windows, present: windows.around(present))


def counting(lengths, cut=False, discrete=True):
    """Episodes whose observations, actions and rewards all say which step of the data they are."""
    size = sum(lengths)
    ends = np.cumsum(lengths) - 1
    terminated = np.isin(np.arange(size), ends[:-1] if cut else ends)
    number = np.arange(size, dtype=np.float32)
    observation = np.stack([number, 100 + number], axis=1)
    action = np.arange(size, dtype=np.int32) if discrete else observation / 1_000
    return Dataset(observation, action, number, observation + 1, terminated, np.zeros(size, bool))


def test_a_window_by_hand():
    """Episodes 0 1 2 | 3 4 5 6; two steps up to the present and three from it on."""
    windows = EpisodeWindows.create(counting([3, 4]), context=2, ahead=3)
    assert (windows.size, windows.length) == (7, 4)
    found = jax.device_get(around(windows, np.array([0, 2, 4, 6])))
    np.testing.assert_array_equal(found.reward, [[0, 0, 1, 2], [0, 0, 1, 2], [3, 4, 5, 6], [3, 4, 5, 6]])
    np.testing.assert_array_equal(found.mask, [[0, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]])
    np.testing.assert_array_equal(found.future, [[0, 1, 1, 1], [0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]])
    np.testing.assert_array_equal(found.timestep, [[0, 0, 1, 2], [0, 0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3]])
    np.testing.assert_array_equal(found.return_to_go[0], [0, 3, 3, 2])
    np.testing.assert_array_equal(found.return_to_go[2], [18, 15, 11, 6])
    np.testing.assert_array_equal(found.observation[0], [[0, 0], [0, 100], [1, 101], [2, 102]])
    np.testing.assert_array_equal(found.next_observation[0, 1:], found.observation[0, 1:] + 1)
    np.testing.assert_array_equal(found.action, found.reward)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    context=st.integers(1, 5),
    ahead=st.integers(1, 5),
    cut=st.booleans(),
)
def test_windows_hold_consecutive_steps_of_one_episode(lengths, context, ahead, cut):
    windows = EpisodeWindows.create(counting(lengths, cut), context, ahead)
    if cut and len(lengths) > 1:
        assert windows.size == sum(lengths[:-1])
    present = np.arange(windows.size)
    found = jax.device_get(around(windows, present))
    episode = np.repeat(np.arange(len(lengths)), lengths)
    first = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
    for index in present:
        steps, future = (found.reward[index][mask[index] > 0] for mask in (found.mask, found.future))
        last = min(index + ahead - 1, first[index] + lengths[episode[index]] - 1)
        np.testing.assert_array_equal(steps, range(max(first[index], last - windows.length + 1), last + 1))
        np.testing.assert_array_equal(future, range(index, last + 1))
        assert found.mask[index, -1] == 1 and np.all(np.diff(found.mask[index]) >= 0)


@pytest.mark.parametrize("discrete", [True, False])
def test_batches_are_drawn_uniformly_and_keep_the_actions_shape(discrete):
    windows = EpisodeWindows.create(counting([2, 3], discrete=discrete), context=3)
    batch = jax.jit(lambda key: windows.sample(key, 2_000))(jax.random.key(0))
    assert batch.action.shape == ((2_000, 3) if discrete else (2_000, 3, 2))
    share = np.bincount(np.asarray(batch.reward[:, -1]).astype(int), minlength=5) / 2_000
    np.testing.assert_allclose(share, 0.2, atol=0.04)


def test_what_padding_hides_is_never_read():
    data = counting([1, 2])
    data.observation[0] = np.nan
    windows = EpisodeWindows.create(data, context=3)
    found = around(windows, np.array([1, 2]))
    assert np.isfinite(found.observation).all()


def test_returns_of_episodes():
    windows = EpisodeWindows.create(counting([3, 2]), context=1)
    np.testing.assert_array_equal(windows.returns, [3, np.nan, np.nan, 7, np.nan])


def test_an_episode_that_the_data_breaks_off_has_no_return():
    """Where rewards are negative, its few would make it the best of all."""
    data = counting([3, 4, 1], cut=True)
    data = dataclasses.replace(data, reward=-np.ones(8, np.float32))
    windows = EpisodeWindows.create(data, context=2)
    assert windows.size == 7 and float(np.nanmax(windows.returns)) == -3 == data.returns.max()
    alone = EpisodeWindows.create(counting([3], cut=True), context=2)
    np.testing.assert_array_equal(alone.returns, [3, np.nan, np.nan])
