"""gymnasium-robotics: found by name, or named with what to install; and FetchReach learned with hindsight."""

import importlib.util
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
from support.seeds import learning_seed

from maxent_rl import train
from maxent_rl.agents import SAC
from maxent_rl.envs.adapters import robotics
from maxent_rl.envs.registry import canonical_name, make_host
from maxent_rl.errors import MissingDependencyError, UnknownNameError

INSTALLED = importlib.util.find_spec(robotics.PACKAGE) is not None
if_installed = pytest.mark.skipif(not INSTALLED, reason="gymnasium-robotics is not installed")


@pytest.mark.parametrize("name", ["FetchReach", "fetchpush-v1", "HandReach-v3", "HandManipulateBlock", "AntMaze_UMaze"])
def test_names_of_the_package_are_known_without_it(name):
    assert robotics.is_robotics(name)


@pytest.mark.parametrize("name", ["HalfCheetah", "Ant", "Reach", "PushFetch", "Handle-v0"])
def test_other_names_do_not_load_it(name):
    assert not robotics.is_robotics(name)


@pytest.mark.parametrize("name", ["FetchNothing", "gymnasium_robotics:FetchNothing"])
def test_without_the_package_the_error_says_what_to_install(monkeypatch, name):
    monkeypatch.setattr(robotics.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(MissingDependencyError, match=r'gymnasium-robotics, .*: pip install "maxent_rl\[robotics\]"'):
        canonical_name(name)


def test_joint_types_are_compared_as_the_numbers_that_they_are():
    """MuJoCo 4 says that `mjtJoint.mjJNT_SLIDE == numpy.int32(2)` is false, with which the Fetch environments fail."""
    utilities = SimpleNamespace(mujoco=mujoco)
    robotics._mend_joint_types(utilities)
    joints = utilities.mujoco.mjtJoint
    assert np.int32(2) in (joints.mjJNT_HINGE, joints.mjJNT_SLIDE) and np.int32(0) == joints.mjJNT_FREE
    assert np.int32(1) not in (joints.mjJNT_HINGE, joints.mjJNT_SLIDE)
    assert utilities.mujoco.mj_step is mujoco.mj_step and utilities.mujoco.mjtObj is mujoco.mjtObj


@if_installed
@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("FetchReach", "FetchReach-v4"),
        ("FetchReach-v4", "FetchReach-v4"),
        ("gymnasium_robotics:FetchReach", "gymnasium_robotics:FetchReach-v4"),
        ("PointMaze_UMaze", "PointMaze_UMaze-v3"),
    ],
)
def test_with_the_package_names_are_found(name, full):
    assert canonical_name(name) == full == canonical_name(full)


@if_installed
def test_with_the_package_wrong_names_are_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'FetchReach-v4'"):
        canonical_name("fetchreach")


@if_installed
@pytest.mark.parametrize("name", ["FetchReach", "PointMaze_UMaze", "HandReach"])
def test_their_goals_are_found_and_their_states_told(name):
    """Mazes write their ends for one step at a time, the others their rewards for many."""
    envs = make_host(name, [0])
    rule, goals = envs.goal_rule(), envs.spec.observation_space.goals
    size = goals.achieved[1] - goals.achieved[0]
    reached = np.random.default_rng(0).uniform(-1, 1, (9, size)).astype(np.float32)
    paid, ended = rule.outcomes(reached, reached, reached, np.zeros(9, bool))
    far, _ = rule.outcomes(reached, reached + 5, reached, np.zeros(9, bool))
    assert len(set(paid)) == len(set(far)) == 1 and paid[0] == far[0] + 1.0 and ended.shape == (9,)
    envs.try_state()
    envs.reset()
    assert envs.get_state() is not None
    assert envs.step(np.zeros((1, *envs.spec.action_shape))).success is not None
    envs.close()


@if_installed
@pytest.mark.slow
def test_fetch_reach_is_learned_with_hindsight(tmp_path):
    agent = SAC(
        goal_relabel="future",
        normalize_observations=True,
        hidden_sizes=(64, 64),
        learning_rate=1e-3,
        discount=0.95,
        initial_temperature=0.05,
    )
    how = {"total_steps": 2_500, "eval_every": 0, "eval_episodes": 20, "seed": learning_seed()}
    result = train(agent, "FetchReach", output_dir=str(tmp_path), progress=False, **how)
    (found,) = result.evaluations[-1][1]
    assert found.extra["success_rate"] > 0.9 and found.mean > -10
