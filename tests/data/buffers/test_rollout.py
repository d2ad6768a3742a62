"""The rollout: the whole of the newest window, in order, whichever window it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.data import Replay, ReplayLayout, RolloutLayout
from maxent_rl.types import Spec, Transition

SPEC = Spec((3,), (2,), 100)
DISCRETE = Spec((3,), (), 100, num_actions=4)


def step_of(number, num_envs, discrete=False):
    """A transition whose entries tell which step and environment it is from: observation number + env / 10."""
    value = number + jnp.arange(num_envs) / 10
    return Transition(
        observation=jnp.tile(value[:, None], (1, 3)),
        action=jnp.arange(num_envs) % 4 if discrete else jnp.tile(value[:, None], (1, 2)) * 100,
        reward=value,
        next_observation=jnp.tile(value[:, None] + 1, (1, 3)),
        terminated=jnp.zeros(num_envs),
        truncated=jnp.ones(num_envs),
        steps=jnp.ones(num_envs),
    )


def fill(layout, count, discrete=False):
    replay = layout.empty()
    for number in range(count):
        replay = layout.add(replay, layout.pack(step_of(number, layout.num_envs, discrete)))
    return replay


@pytest.mark.parametrize("windows", [1, 3])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_each_window_is_the_newest_steps_in_order(windows, num_envs):
    layout = RolloutLayout.create(SPEC, 5, num_envs)
    window = layout.sample(fill(layout, 5 * windows), jax.random.key(0), 0.99)
    expected = np.arange(5 * (windows - 1), 5 * windows)[:, None] + np.arange(num_envs) / 10
    np.testing.assert_allclose(window.reward, expected, rtol=1e-6)
    np.testing.assert_allclose(window.observation[..., 2], expected, rtol=1e-6)
    np.testing.assert_allclose(window.next_observation[..., 0], expected + 1, rtol=1e-6)
    assert window.action.shape == (5, num_envs, 2) and not window.terminated.any() and window.truncated.all()


def test_nothing_is_drawn():
    layout = RolloutLayout.create(SPEC, 4, 2)
    replay = fill(layout, 4)
    first, second = (layout.sample(replay, jax.random.key(seed), discount) for seed, discount in ((0, 0.9), (1, 0.5)))
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_the_buffer_is_just_the_window():
    layout = RolloutLayout.create(SPEC, 7, 3)
    assert layout.capacity == 21 and layout.batch_shape == (7, 3)
    assert layout.batch_parts == 3, "devices share the environments, not the steps of one"


@pytest.mark.slow
@pytest.mark.parametrize("layout", [RolloutLayout.create(DISCRETE, 2, 5), ReplayLayout.create(DISCRETE, 10, 5, 8, 2)])
def test_discrete_actions_have_no_axis_of_their_own(layout):
    replay = fill(layout, 2, discrete=True)
    assert layout.width == 10
    batch = layout.sample(replay, jax.random.key(0), 0.99)
    assert batch.action.shape == batch.reward.shape and set(np.asarray(batch.action).ravel()) <= {0.0, 1.0, 2.0, 3.0}
    host = layout.pack_host(*(np.zeros((5, 3)), np.arange(5) % 4, *(np.zeros(s) for s in (5, (5, 3), 5, 5))))
    np.testing.assert_array_equal(layout.unpack(jnp.asarray(host)).action, np.arange(5) % 4)


def test_seeds_under_vmap_have_their_own_windows():
    layout = RolloutLayout.create(SPEC, 4, 2)
    rows = jnp.stack([fill(layout, 4).rows + index for index in range(3)])
    many = jax.vmap(lambda rows: layout.sample(Replay(rows, jnp.int32(8)), jax.random.key(0), 0.99))(rows)
    for index in range(3):
        alone = layout.sample(Replay(rows[index], jnp.int32(8)), jax.random.key(0), 0.99)
        np.testing.assert_array_equal(many.observation[index], alone.observation)
