"""Motions in a plane of points: the point robot by hand, and Brax's ant at the edge of its square."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl import envs
from maxent_rl.envs import reset_batch, step_batch
from maxent_rl.envs.submodular.plane_motions import AntPlane, PointMass
from maxent_rl.errors import InvalidSettingError, UnknownNameError


def test_a_point_moves_by_its_speed_and_stops_at_walls():
    motion = PointMass(edge=2.0, speed=0.5)
    state = motion.reset(jax.random.key(0))
    np.testing.assert_array_equal(motion.element(state), [0.0, 0.0])
    for action, expected in (((1.0, -0.5), (0.5, -0.25)), ((1.0, 1.0), (1.0, 0.25)), ((1.0, 0.0), (1.5, 0.25))):
        state, ended = motion.move(state, jnp.array(action))
        np.testing.assert_allclose(motion.element(state), expected)
        assert not ended
    for _ in range(3):
        state, _ = motion.move(state, jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(motion.observe(state), [1.0, 0.125])
    np.testing.assert_allclose(motion.element_seen(np.array([[1.0, 0.125, 9.0]])), [[2.0, 0.25]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PointMass(0.0, 1.0), "edge of the square must be above 0 and finite, got 0"),
        (lambda: PointMass(1.0, np.inf), "speed must be above 0 and finite, got inf"),
        (lambda: AntPlane(-1.0), "edge of the square must be above 0 and finite, got -1"),
    ],
)
def test_what_cannot_be_moved_in_is_refused(make, message):
    with pytest.raises(InvalidSettingError, match=message):
        make()


def test_an_unknown_physics_is_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'spring'"):
        AntPlane(20.0, "sprin")


@pytest.mark.slow
def test_the_ant_starts_anew_with_nothing_covered_where_it_leaves_its_square():
    full = envs.make_device("maxent/AntCoverage")
    assert full.spec.observation_shape == (31,) and full.spec.action_shape == (8,) and full.spec.horizon == 400
    env = dataclasses.replace(full, motion=AntPlane(edge=0.3))
    state = reset_batch(env, jax.random.split(jax.random.key(0), (1, 16)))

    @jax.jit
    def advance(state, key):
        following, step = step_batch(env, state, jax.random.uniform(key, (1, 16, 8), minval=-1.0, maxval=1.0))
        memory = jax.vmap(lambda place: env.function.add(env.function.empty(), env.motion.element(place))[0])(
            jax.tree.map(lambda leaf: leaf[0], following.inner.place)
        )
        return following, step, memory

    ended_anywhere = 0
    for key in jax.random.split(jax.random.key(1), 60):
        covered_before = np.asarray(state.inner.memory[0])
        state, step, fresh = advance(state, key)
        ended, position = np.asarray(step.terminated[0]), np.asarray(step.next_observation[0, :, :2]) * 0.3
        assert np.isfinite(np.asarray(step.next_observation)).all()
        np.testing.assert_array_equal(ended, (np.abs(position) > 0.3).any(axis=1))
        assert not step.truncated.any()
        covered = np.asarray(state.inner.memory[0])
        np.testing.assert_array_equal(covered[ended], np.asarray(fresh)[ended])
        np.testing.assert_array_equal(state.inner.elapsed[0][ended], 0)
        # What the step paid is a tenth of what became covered; of those that go on it can be counted.
        gained = covered.sum(axis=1) - covered_before.sum(axis=1)
        np.testing.assert_allclose(step.reward[0][~ended], 0.1 * gained[~ended], atol=1e-6)
        assert (covered_before[~ended] <= covered[~ended]).all()
        ended_anywhere += ended.sum()
    assert ended_anywhere >= 16
