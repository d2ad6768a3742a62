"""Environments of envpool give the same kind of steps as Gymnasium's."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from maxent_rl import envs as environments
from maxent_rl.errors import CheckpointError, IncompatibleEnvironmentError, MissingDependencyError, UnknownNameError


@pytest.fixture
def envpool():
    return pytest.importorskip("envpool", reason="the extra maxent_rl[envpool] is not installed")


def _rollout(seeds, column, steps=200, name="envpool/Hopper"):
    envs = environments.make_host(name, seeds)
    generator = np.random.default_rng(0)
    rows = [[envs.reset()[column]]]
    for _ in range(steps):
        action = np.broadcast_to(
            generator.uniform(-1, 1, envs.spec.action_shape), (len(seeds), *envs.spec.action_shape)
        )
        rows.append([field[column] for field in envs.step(action.astype(np.float32))])
    envs.close()
    return rows


def test_an_extra_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "maxent_rl\[envpool\]"'):
        environments.make_host("envpool/HalfCheetah", [0])


@pytest.mark.usefixtures("envpool")
def test_shapes_and_bounds_are_gymnasiums():
    for name in ("HalfCheetah", "Humanoid", "Pendulum"):
        ours, theirs = environments.make_host(f"envpool/{name}", [0]), environments.make_host(name, [0])
        for field in ("observation_shape", "action_shape", "horizon", "num_actions"):
            assert getattr(ours.spec, field) == getattr(theirs.spec, field)
        assert ours.spec.action_space.low == pytest.approx(theirs.spec.action_space.low)
        assert ours.spec.action_high == pytest.approx(theirs.spec.action_high)
        ours.close()
        theirs.close()


@pytest.mark.usefixtures("envpool")
def test_an_environment_does_the_same_in_whatever_company():
    alone, company, other = _rollout([7], 0), _rollout([3, 7, 2**31 + 8], 1), _rollout([8], 0, steps=5)
    np.testing.assert_equal(alone, company)
    assert not np.array_equal(alone[0], other[0])
    assert sum(row[2] for row in alone[1:]) > 2, "too few episodes ended"


@pytest.mark.usefixtures("envpool")
def test_a_second_reset_begins_with_the_seeds_again():
    envs = environments.make_host("envpool/Pendulum", [1, 2])
    np.testing.assert_array_equal(envs.reset(), envs.reset())
    envs.close()


@pytest.mark.usefixtures("envpool")
def test_no_transition_joins_two_episodes():
    # A Hopper's height and angle change by little in one step, and by much when a new episode begins.
    envs = environments.make_host("envpool/Hopper", range(4))
    generator = np.random.default_rng(0)
    observation, ends = envs.reset(), 0
    for _ in range(300):
        step = envs.step(generator.uniform(-1, 1, (4, 3)).astype(np.float32))
        assert np.abs(step.next_observation[:, :2] - observation[:, :2]).max() < 0.1
        done = step.terminated | step.truncated
        height, angle = step.next_observation[:, 0], step.next_observation[:, 1]
        healthy = (height > 0.7) & (np.abs(angle) < 0.2) & (np.abs(step.next_observation[:, 1:]) < 100).all(axis=1)
        np.testing.assert_array_equal(step.terminated, ~healthy)
        np.testing.assert_array_equal(step.observation[~done], step.next_observation[~done])
        assert (np.abs(step.observation[done, 0] - 1.25) < 0.02).all()
        observation, ends = step.observation, ends + done.sum()
    assert ends > 8
    envs.close()


@pytest.mark.usefixtures("envpool")
@pytest.mark.parametrize(("horizon", "expected"), [(None, 200), (30, 30)])
def test_a_time_limit_truncates_and_does_not_terminate(horizon, expected):
    from maxent_rl.envs.adapters.envpool import EnvpoolEnvs

    envs = EnvpoolEnvs("Pendulum-v1", [0, 1], horizon=horizon)
    assert envs.spec.horizon == expected
    envs.reset()
    steps = [envs.step(np.zeros((2, 1), np.float32)) for _ in range(2 * expected)]
    assert [index + 1 for index, step in enumerate(steps) if step.truncated.all()] == [expected, 2 * expected]
    assert not any(step.terminated.any() for step in steps)
    last = steps[expected - 1]
    assert not np.array_equal(last.next_observation, last.observation)
    envs.close()


@pytest.mark.usefixtures("envpool")
def test_termination_wins_in_the_very_step_of_the_time_limit(monkeypatch):
    """envpool itself calls such an end truncated, and a value target would go on beyond a fallen Hopper."""
    import envpool

    from maxent_rl.envs.adapters.envpool import EnvpoolEnvs

    def first_end():
        envs = EnvpoolEnvs("Hopper-v5", [5])
        envs.reset()
        for count in range(1, envs.spec.horizon + 1):
            step = envs.step(np.ones((1, 3), np.float32))
            if step.terminated[0] or step.truncated[0]:
                return count, bool(step.terminated[0]), bool(step.truncated[0])
        raise AssertionError("no episode ended")

    falls, *kind = first_end()
    assert kind == [True, False]
    own = envpool.make_spec
    monkeypatch.setattr(envpool, "make_spec", lambda name: own(name, max_episode_steps=falls))
    assert first_end() == (falls, True, False)
    monkeypatch.setattr(envpool, "make_spec", lambda name: own(name, max_episode_steps=falls - 1))
    assert first_end() == (falls - 1, False, True)


@pytest.mark.usefixtures("envpool")
def test_seeds_that_differ_in_their_highest_bit_alone_differ():
    from maxent_rl.envs.adapters.envpool import EnvpoolEnvs

    envs = EnvpoolEnvs("Hopper-v5", [5, 5 + 2**31, 2**32 - 1])
    assert len(np.unique(envs.reset()[:, 0])) == 3
    envs.close()
    envs.close()


@pytest.mark.usefixtures("envpool")
def test_it_says_that_it_cannot_tell_its_state():
    envs = environments.make_host("envpool/CartPole", [0])
    envs.reset()
    assert envs.spec.num_actions == 2
    envs.step(np.array([1]))
    assert envs.get_state() is None
    with pytest.raises(CheckpointError, match="starts new episodes"):
        envs.set_state({})
    envs.close()


@pytest.mark.usefixtures("envpool")
@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("envpool/HalfCheeta", UnknownNameError, "envpool/HalfCheetah-v5"),
        ("envpool/HumanoidRun", IncompatibleEnvironmentError, r"envpool/HumanoidRun-v1 observes a Dict"),
    ],
)
def test_what_cannot_be_had_is_explained(name, error, message):
    with pytest.raises(error, match=message):
        environments.make_host(name, [0])
