"""The replay buffer: what goes in comes out, oldest first to go, and n-step windows stop where they must."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import rounding

from maxent_rl.data import Replay, ReplayLayout
from maxent_rl.data.buffers.replay import uniform_below
from maxent_rl.types import Spec, Transition

SPEC = Spec((3,), (2,), 100)


def layout_of(replay_size=20, num_envs=1, batch_size=64, n_step=1):
    return ReplayLayout.create(SPEC, replay_size, num_envs, batch_size, n_step)


def step_of(number, num_envs=1, terminated=0.0, truncated=0.0):
    """A transition whose entries tell which step and environment it is from: observation number + env / 10."""
    value = np.float32(number + np.arange(num_envs) / 10)
    flag, cut = (np.broadcast_to(np.float32(each), (num_envs,)) for each in (terminated, truncated))
    return Transition(
        observation=np.tile(value[:, None], (1, 3)),
        action=np.tile(value[:, None], (1, 2)) / 100,
        reward=value,
        next_observation=np.tile(value[:, None] + 1, (1, 3)),
        terminated=flag,
        truncated=cut,
        steps=np.ones(num_envs, np.float32),
    )


@partial(jax.jit, static_argnums=0)
def add(layout, replay, transition):
    return layout.add(replay, layout.pack(transition))


@partial(jax.jit, static_argnums=0)
def drawn(layout, replay, key, discount):
    return layout.sample(replay, key, discount)


def sample(layout, replay, key, discount):
    return jax.device_get(drawn(layout, replay, key, discount))


def fill(layout, count, ends=None):
    replay = layout.empty()
    for number in range(count):
        flags = (ends or {}).get(number, {})
        replay = add(layout, replay, step_of(number, layout.num_envs, **flags))
    return replay


def test_pack_and_unpack_are_inverse_and_agree_with_the_host():
    layout, transition = layout_of(num_envs=4), step_of(7, 4, terminated=[0, 1, 0, 0], truncated=[0, 0, 1, 0])
    rows = layout.pack(transition)
    jax.tree.map(np.testing.assert_array_equal, layout.unpack(rows), transition)
    host = layout.pack_host(
        *(np.asarray(x) for x in (transition.observation, transition.action, transition.reward)),
        *(np.asarray(x) for x in (transition.next_observation, transition.terminated, transition.truncated)),
    )
    np.testing.assert_array_equal(host, rows)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "last"), [(3, 2), (10, 9), (12, 11)], ids=["filling", "full", "over and over"])
def test_a_cut_ends_the_newest_steps_where_nothing_ended_them(count, last):
    layout = layout_of(replay_size=20, num_envs=2, n_step=3, batch_size=512)
    replay = fill(layout, count, {last: {"terminated": [0.0, 1.0]}})
    cut = dataclasses.replace(replay, rows=layout.cut(replay.rows[None], replay.inserted)[0])
    before, after = layout.unpack(replay.rows), layout.unpack(cut.rows)
    newest = np.flatnonzero(np.asarray(after.truncated))
    assert len(newest) == 1 and before.observation[newest[0], 0] == last
    np.testing.assert_array_equal(after.terminated, before.terminated)
    # Another episode begins: no window of three steps reaches over.
    batch = layout.sample(layout.add(cut, layout.pack(step_of(100, 2))), jax.random.key(0), 1.0)
    assert not ((batch.observation[:, 0] < 100) & (batch.next_observation[:, 0] > 100)).any()
    np.testing.assert_array_equal(layout.cut(layout.empty().rows, jnp.int32(0)), 0)


def test_only_rows_that_were_written_are_drawn():
    layout = layout_of(replay_size=50, batch_size=512)
    batch = sample(layout, fill(layout, 5), jax.random.key(0), 0.99)
    assert set(np.asarray(batch.reward).tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}


def test_the_oldest_rows_give_way():
    layout = layout_of(replay_size=10, num_envs=2, batch_size=512)
    batch = sample(layout, fill(layout, 8), jax.random.key(0), 0.99)
    assert sorted({int(r) for r in np.asarray(batch.reward)}) == [3, 4, 5, 6, 7]


def test_capacity_holds_whole_vector_steps():
    assert layout_of(replay_size=11, num_envs=4).capacity == 8
    assert layout_of(replay_size=1, num_envs=4).capacity == 4


def test_sampling_is_uniform():
    layout = layout_of(replay_size=10, batch_size=100_000)
    counts = np.bincount(np.asarray(sample(layout, fill(layout, 10), jax.random.key(3), 0.99).reward).astype(int))
    assert abs(counts / 10_000 - 1).max() < 0.05


def rows_by_start(batch):
    return {round(float(r), 3): index for index, r in enumerate(np.asarray(batch.observation[:, 0]))}


def test_n_step_sums_discounted_rewards_and_stays_in_one_environment():
    layout = layout_of(replay_size=40, num_envs=2, batch_size=512, n_step=3)
    batch = sample(layout, fill(layout, 10), jax.random.key(0), 0.5)
    index = rows_by_start(batch)[4.1]
    np.testing.assert_allclose(batch.reward[index], 4.1 + 0.5 * 5.1 + 0.25 * 6.1, rtol=1e-6)
    np.testing.assert_allclose(batch.next_observation[index], np.full(3, 7.1), rtol=1e-6)
    assert batch.steps[index] == 3


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_n_step_stops_at_an_episodes_end(end):
    layout = layout_of(replay_size=40, batch_size=512, n_step=3)
    batch = sample(layout, fill(layout, 10, {5: {end: 1.0}}), jax.random.key(0), 0.5)
    index = rows_by_start(batch)[4.0]
    np.testing.assert_allclose(batch.reward[index], 4 + 0.5 * 5, rtol=rounding(8))  # powers are exponentials
    assert batch.steps[index] == 2 and batch.next_observation[index][0] == 6
    assert getattr(batch, end)[index] == 1
    assert batch.terminated[index] + batch.truncated[index] == 1


@pytest.mark.parametrize("count", [10, 27])
def test_n_step_stops_at_the_newest_row(count):
    """Also once the buffer has wrapped: the row after the newest is the oldest, of another time."""
    layout = layout_of(replay_size=20, batch_size=1024, n_step=4)
    batch = sample(layout, fill(layout, count), jax.random.key(0), 1.0)
    steps = {int(o): int(s) for o, s in zip(batch.observation[:, 0], batch.steps, strict=True)}
    assert [steps[count - k] for k in (1, 2, 3, 4, 5)] == [1, 2, 3, 4, 4]
    assert set(np.asarray(batch.next_observation[:, 0] - batch.observation[:, 0]).astype(int)) == {1, 2, 3, 4}


def test_one_step_is_n_step_one():
    one, three = layout_of(n_step=1), layout_of(n_step=3)
    key, replay = jax.random.key(5), fill(layout_of(), 12)
    np.testing.assert_array_equal(
        sample(one, replay, key, 0.9).observation, sample(three, replay, key, 0.9).observation
    )


def test_seeds_under_vmap_draw_what_they_draw_alone():
    layout = layout_of(batch_size=32)
    replays = [fill(layout, 12) for _ in range(3)]
    rows = jnp.stack([replay.rows + index for index, replay in enumerate(replays)])
    keys = jax.random.split(jax.random.key(0), 3)
    many = jax.jit(jax.vmap(lambda r, k: layout.sample(Replay(r, jnp.int32(12)), k, 0.99)))(rows, keys)
    for index in range(3):
        alone = sample(layout, Replay(rows[index], jnp.int32(12)), keys[index], 0.99)
        np.testing.assert_array_equal(many.observation[index], alone.observation)


@given(bits=st.integers(0, 2**32 - 1), bound=st.integers(1, 2**31 - 1))
def test_random_bits_become_the_index_that_exact_arithmetic_gives(bits: int, bound: int) -> None:
    assert int(uniform_below(jnp.uint32(bits), jnp.int32(bound))) == bits * bound >> 32
