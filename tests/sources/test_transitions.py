"""Collecting data sets: the five kinds, in the environment's own units, on host and device; and what a run makes of them."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from agents_under_test import AGENTS_UNDER_TEST
from environments import HostPoint, OneStepDevice, OneStepHost, Point
from teachers import make_teacher

from maxent_rl import envs, train
from maxent_rl.data.buffers.replay import ReplayLayout
from maxent_rl.data.datasets.arrays_of_files import same_observation
from maxent_rl.data.datasets.dataset import ARRAYS, Dataset
from maxent_rl.data.datasets.files import write_dataset
from maxent_rl.data.datasets.units import stored_actions
from maxent_rl.errors import CheckpointError, DataError, InvalidSettingError
from maxent_rl.playing.trajectories import collect_trajectories
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.policy import load_policy
from maxent_rl.runs.records import read_csv
from maxent_rl.sources import read_transitions, replay, transitions
from maxent_rl.sources.transitions import Collecting, collect
from maxent_rl.spaces import Space, to_agent
from maxent_rl.types import Spec

SAC, DISCRETE = AGENTS_UNDER_TEST["sac"].agent, AGENTS_UNDER_TEST["sac-discrete"].agent
SETTINGS = {"eval_episodes": 1, "progress": False, "name": "run"}
SPEC = Spec((2,), (1,), 5, action_space=Space("box", (1,), low=(-2.0,), high=(2.0,)))


@pytest.fixture(scope="module")
def cart(tmp_path_factory):
    """A run on CartPole, discrete, with two seeds and two environments of each."""
    folder = str(tmp_path_factory.mktemp("cart"))
    settings = SETTINGS | {
        "total_steps": 300,
        "num_seeds": 2,
        "num_envs": 2,
        "eval_every": 100,
        "checkpoint_every": 100,
    }
    return train(DISCRETE.replace(start_steps=200, replay_size=1000), "CartPole-v1", output_dir=folder, **settings)


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    """A run on Pendulum, continuous, whose actions are torques within +-2."""
    folder = str(tmp_path_factory.mktemp("pendulum"))
    settings = SETTINGS | {"total_steps": 450, "eval_every": 0, "checkpoint_every": 200}
    return train(SAC.replace(replay_size=1000), "Pendulum-v1", output_dir=folder, **settings)


@pytest.fixture(scope="module")
def goal(tmp_path_factory):
    """A policy on a device environment."""
    env = envs.make_device("maxent/MultiGoal")
    return make_teacher(tmp_path_factory.mktemp("goal"), env=env, env_name="maxent/MultiGoal")


def gather(result=None, **settings):
    policy = None if result is None else str(getattr(result, "folder", result))
    return collect(Collecting(**{"policy": policy, "size": 150} | settings)).data


def greedy(result, data, seed=None):
    return load_policy(getattr(result, "folder", result), seed=seed)(data.observation)


# The kinds.


@pytest.mark.slow
@pytest.mark.parametrize("env", ["CartPole", "Pendulum", "maxent/MultiGoal"])
def test_random_actions_need_no_policy(env):
    data = gather(kind="random", env=env, size=333)
    assert data.size == 333 and data.about["kind"] == "random" and "expert_return" not in data.about
    spread = data.action.astype(np.float64).mean(), data.action.astype(np.float64).std()
    if env == "CartPole":
        assert data.env == "CartPole-v1" and data.action.dtype == np.int32
        assert spread == (pytest.approx(0.5, abs=0.1), pytest.approx(0.5, abs=0.05))
    else:
        bound = {"Pendulum": 2.0, "maxent/MultiGoal": 1.0}[env]
        assert spread == (pytest.approx(0.0, abs=0.2 * bound), pytest.approx(bound / np.sqrt(3), rel=0.1))
        assert bound * 0.95 < np.abs(data.action).max() <= bound
    again, other = gather(kind="random", env=env, size=333), gather(kind="random", env=env, size=333, seed=1)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(data, name), getattr(again, name))
    assert not np.array_equal(data.observation, other.observation)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cart", "pendulum", "goal"])
def test_the_expert_is_the_greedy_policy_in_the_environments_units(name, request):
    result = request.getfixturevalue(name)
    data = gather(result, kind="expert")
    assert data.size == 150
    np.testing.assert_allclose(data.action, greedy(result, data), atol=1e-5)
    if name == "cart":
        other = gather(result, kind="expert", policy_seed=1)
        np.testing.assert_array_equal(other.action, greedy(result, other, seed=1))


@pytest.mark.slow
def test_noise_on_discrete_actions_is_epsilon_greedy(cart):
    data = gather(cart, kind="noisy", noise=0.4, size=3000)
    share = np.mean(data.action != greedy(cart, data))
    assert share == pytest.approx(
        0.2, abs=4 * np.sqrt(0.2 * 0.8 / 3000)
    )  # half of the random actions are the greedy one
    assert data.about["noise"] == 0.4
    still = gather(cart, kind="noisy", noise=0.0)
    np.testing.assert_array_equal(still.action, greedy(cart, still))


@pytest.mark.slow
def test_noise_on_continuous_actions_is_gaussian_where_the_range_is_1(tmp_path):
    # An untrained policy: what a trained one does is mostly near a bound, where noise is clipped.
    untrained = make_teacher(tmp_path, env=envs.make_host("Pendulum-v1", [0]), env_name="Pendulum-v1")
    data = gather(untrained, kind="noisy", noise=0.1, size=4000)
    inside = np.abs(greedy(untrained, data)) < 1.2  # four deviations from a bound
    off = (data.action - greedy(untrained, data))[inside]
    assert off.size > 1600  # for which the bounds are five and four standard errors
    assert off.std() == pytest.approx(0.2, rel=0.1) and np.abs(off.mean()) < 0.02
    wild = gather(untrained, kind="noisy", noise=10.0)
    assert np.abs(wild.action).max() == 2.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cart", "pendulum"])
def test_mixed_is_four_fifths_of_random_then_a_fifth_of_the_expert(name, request):
    result = request.getfixturevalue(name)
    mixed = gather(result, kind="mixed", size=200)
    random, expert = gather(result, kind="random", size=200), gather(result, kind="expert", size=200)
    assert mixed.size == 200
    np.testing.assert_array_equal(mixed.action[:160], random.action[:160])
    np.testing.assert_allclose(mixed.action[160:], greedy(result, mixed)[160:], atol=1e-5)
    np.testing.assert_array_equal(mixed.observation[160], expert.observation[0])
    assert mixed.truncated[159] or mixed.terminated[159]


def played(data):
    """Whether every step within an episode leads to the next one's observation, and none across its end does."""
    ended = data.terminated | data.truncated
    same = same_observation(data.next_observation[:-1], data.observation[1:])
    return (same == ~ended[:-1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "expert", "noisy", "mixed"])
def test_it_stops_exactly_where_it_should_with_an_unfinished_tail(pendulum, tmp_path, kind):
    """Episodes of Pendulum have 200 steps and are never terminated; the last of 450 is cut by nothing but the size."""
    data = gather(pendulum, kind=kind, size=450)
    ends = {"mixed": [199, 359], "random": [199, 399]}.get(kind, [199, 399])
    assert data.size == 450 and not data.terminated.any() and np.flatnonzero(data.truncated).tolist() == ends
    assert played(data) and not data.episodes.complete[-1]
    write_dataset(data, tmp_path / "data.npz")


@pytest.mark.slow
def test_terminal_states_and_time_limits_are_told_apart(cart):
    data = gather(cart, kind="random", size=400)
    assert played(data) and data.terminated.sum() > 10 and not data.truncated.any()
    fallen = data.next_observation[data.terminated]
    assert ((np.abs(fallen[:, 2]) > 0.2) | (np.abs(fallen[:, 0]) > 2.4)).all()


@pytest.mark.slow
@pytest.mark.parametrize("terminates", [True, False])
@pytest.mark.parametrize("host", [True, False])
def test_a_trajectory_says_how_it_ended(tmp_path, host, terminates):
    policy = load_policy(make_teacher(tmp_path, env=OneStepDevice(terminates)))
    env = (lambda: OneStepHost(terminates)) if host else OneStepDevice(terminates)
    found = collect_trajectories(policy, 2, env=env)
    assert [each.terminated for each in found] == [terminates] * 2
    data = transitions.from_trajectory(found[0], OneStepDevice(terminates).spec)
    assert (data.terminated.tolist(), data.truncated.tolist()) == ([terminates], [not terminates])


@pytest.mark.slow
@pytest.mark.parametrize("env", [HostPoint, Point()], ids=["host", "device"])
def test_a_time_limit_terminates_nothing(tmp_path, env):
    found = collect_trajectories(load_policy(make_teacher(tmp_path)), 2, env=env)
    assert [(each.length, each.terminated) for each in found] == [(20, False)] * 2


# The replay buffer.


@pytest.mark.slow
def test_the_replay_buffer_is_all_that_training_saw_in_order(pendulum, tmp_path):
    found = collect(Collecting(kind="replay", policy=str(pendulum.folder)))
    data = found.data
    assert data.size == 450 and not found.notes and played(data) and data.about["kind"] == "replay"
    assert np.flatnonzero(data.truncated).tolist() == [199, 399] and not data.terminated.any()
    assert np.abs(data.action).max() > 1.0  # torques
    velocity = data.observation[:, 2]  # the pendulum obeys its equation of motion for these torques
    angle = np.arctan2(data.observation[:, 1], data.observation[:, 0])
    moved = velocity + 0.05 * (15.0 * np.sin(angle) + 3.0 * data.action[:, 0])
    np.testing.assert_allclose(data.next_observation[:, 2], np.clip(moved, -8, 8), atol=1e-4)
    write_dataset(data, tmp_path / "data.npz")
    few = collect(Collecting(kind="replay", policy=str(pendulum.folder), size=50)).data
    np.testing.assert_array_equal(few.action, data.action[:50])
    many = collect(Collecting(kind="replay", policy=str(pendulum.folder), size=1000))
    assert many.data.size == 450 and "450 transitions, fewer than the 1,000 asked for" in many.notes[0]


@pytest.mark.slow
def test_environments_side_by_side_come_one_episode_after_the_other(cart, tmp_path):
    found = collect(Collecting(kind="replay", policy=str(cart.folder), policy_seed=1))
    data = found.data
    assert played(data) and data.terminated.sum() > 5 and "without a beginning or an end" in found.notes[0]
    left_out = int(found.notes[0].split()[0])
    assert data.size == 300 - left_out and 0 < left_out < 150
    write_dataset(data, tmp_path / "data.npz")
    other = collect(Collecting(kind="replay", policy=str(cart.folder), policy_seed=0)).data
    assert not np.array_equal(other.observation[:10], data.observation[:10])


def packed(*episodes, num_envs=2):
    """Rows of environments side by side; an episode is (env, numbers of its observations, how it ends)."""
    layout = ReplayLayout(2, (1,), 100, num_envs)
    columns = [[] for _ in range(num_envs)]
    for env, numbers, end in episodes:
        for index, number in enumerate(numbers):
            last = index == len(numbers) - 1
            observation, following = np.full((1, 2), number, np.float32), np.full((1, 2), number + 1, np.float32)
            flags = np.array([last and end == "t"]), np.array([last and end == "c"])
            action = np.full((1, 1), 0.5, np.float32)
            reward = np.array([number], np.float32)
            columns[env].append(layout.pack_host(observation, action, reward, following, *flags))
    return np.stack([np.concatenate(column) for column in columns], axis=1).reshape(-1, layout.width), layout


@pytest.mark.slow
def test_rows_by_hand():
    """Episodes in the order in which they ended; of those that still run the longest stays, at the end."""
    rows, layout = packed((0, range(3), "t"), (1, range(10, 14), "c"), (0, range(20, 23), "u"), (1, [30, 31], "u"))
    data, left_out = replay.in_order(rows, layout, SPEC, began=True)
    assert data.reward.tolist() == [0, 1, 2, 10, 11, 12, 13, 20, 21, 22] and left_out == 2
    assert np.flatnonzero(data.terminated).tolist() == [2] and np.flatnonzero(data.truncated).tolist() == [6]
    np.testing.assert_array_equal(data.action, np.ones((10, 1)))  # half of the way to 2
    data, left_out = replay.in_order(rows, layout, SPEC, began=False)
    assert data.reward.tolist() == [20, 21, 22] and left_out == 9
    data, left_out = replay.in_order(rows[:4], layout, SPEC, began=False)
    assert data.size == 0 and left_out == 4


@pytest.mark.slow
def test_an_episode_that_was_broken_off_is_cut_there():
    rows, layout = packed((0, range(3), "u"), (0, range(10, 14), "t"), num_envs=1)
    data, _ = replay.in_order(rows, layout, SPEC, began=True)
    assert np.flatnonzero(data.truncated).tolist() == [2] and np.flatnonzero(data.terminated).tolist() == [6]


@pytest.mark.slow
def test_a_buffer_that_has_overwritten_its_first_rows_begins_with_a_whole_episode(pendulum):
    policy = load_policy(pendulum.folder)
    policy.agent = policy.agent.replace(replay_size=250)  # as if the run had had such a buffer
    found = replay.read_replay(pendulum.folder, policy)
    assert (found.step, found.overwritten, found.left_out) == (450, 200, 200)
    assert found.data.size == 50 and not found.data.episodes.complete.any()
    policy.agent = policy.agent.replace(replay_size=50)
    with pytest.raises(DataError, match="not even the beginning of an episode"):
        replay.read_replay(pendulum.folder, policy)


@pytest.mark.slow
def test_what_was_overwritten_is_said(pendulum, monkeypatch):
    kept = replay.read_replay(pendulum.folder, load_policy(pendulum.folder))
    monkeypatch.setattr(transitions, "read_replay", lambda *_: kept._replace(step=500, overwritten=50, left_out=7))
    first, second = collect(Collecting(kind="replay", policy=str(pendulum.folder))).notes
    assert "overwritten the first 50 of 500 transitions" in first and second.startswith("7 transitions of episodes")


@pytest.mark.slow
def test_runs_without_a_buffer_or_a_checkpoint_are_refused(tmp_path, pendulum):
    ppo = AGENTS_UNDER_TEST["ppo"].agent
    make_teacher(tmp_path / "ppo", agent=ppo)
    (tmp_path / "ppo" / "config.json").write_text(json.dumps(describe(RunConfig(agent="ppo", env="Point"), ppo)))
    with pytest.raises(InvalidSettingError, match="--agent ppo has none"):
        collect(Collecting(kind="replay", policy=str(tmp_path / "ppo")))
    (tmp_path / "policy").symlink_to(pendulum.folder / "policy")
    (tmp_path / "config.json").write_text((pendulum.folder / "config.json").read_text())
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        collect(Collecting(kind="replay", policy=str(tmp_path)))


@pytest.mark.slow
def test_reading_a_buffer_changes_nothing_in_the_run(pendulum):
    def files():
        return {path: path.stat().st_mtime_ns for path in pendulum.folder.rglob("*")}

    before = files()
    collect(Collecting(kind="replay", policy=str(pendulum.folder)))
    assert files() == before


@pytest.mark.slow
def test_missing_rows_of_a_buffer_are_refused(tmp_path, pendulum):
    folder = shutil.copytree(pendulum.folder, tmp_path / "run")
    first = min((folder / "checkpoints" / "replay").glob("*.npy"))
    first.write_bytes(first.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="is damaged"):
        collect(Collecting(kind="replay", policy=str(folder)))
    first.unlink()
    with pytest.raises(CheckpointError, match="Replay rows 0 to 450 are missing"):
        collect(Collecting(kind="replay", policy=str(folder)))


# What is said of the data, and what cannot be.


@pytest.mark.slow
def test_the_best_evaluation_of_the_policys_seed_is_said(cart):
    rows = read_csv(cart.folder / "eval.csv")
    for seed in (0, 1):
        about = gather(cart, kind="expert", policy_seed=seed).about
        assert about["expert_return"] == max(row["return_mean"] for row in rows if row["seed"] == seed)
        assert (about["policy_seed"], about["policy_step"]) == (seed, 300)
    assert about["action_space"]["sizes"] == (2,) and "jax" in about["random_numbers"] and json.dumps(about)


@pytest.mark.slow
def test_what_contradicts_itself_is_one_sentence(cart, pendulum):
    for settings, message in (
        ({"kind": "expert", "env": "CartPole"}, "--kind expert needs --policy RUN"),
        ({"kind": "random"}, "need --env NAME"),
        ({"kind": "noisy", "policy": str(cart.folder), "noise": 1.5}, "at most 1, got 1.5"),
        ({"kind": "replay", "policy": str(cart.folder), "env": "Pendulum"}, "leave --env out"),
    ):
        with pytest.raises(InvalidSettingError, match=message):
            collect(Collecting(**settings))


@pytest.mark.slow
def test_progress_ends_with_the_size(cart):
    for kind in ("random", "mixed"):
        told = []
        collect(Collecting(kind=kind, policy=str(cart.folder), size=200), told.append)
        assert told == sorted(told) and told[-1] == 200


# Units, and data of another environment.


@pytest.mark.slow
def test_units_there_and_back():
    space = Space("box", (2,), low=(-2.0, 0.0), high=(2.0, 10.0))
    action = np.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [0.5, -0.5], [3.0, -3.0]], np.float32)
    found = stored_actions(action, space)
    np.testing.assert_allclose(found, [[-2, 0], [0, 5], [2, 10], [1, 2.5], [2, 0]])
    np.testing.assert_allclose(to_agent(found, space), np.clip(action, -1, 1), atol=1e-6)
    choices = Space("discrete", (), "int64", sizes=(3,), start=(-1,))
    assert stored_actions(np.array([0.0, 2.0]), choices).tolist() == [0, 2]


def data_of(action, observation=2, env=None):
    count = len(action)
    rows = np.arange(count * observation, dtype=np.float32).reshape(count, observation)
    ends = np.ones(count, bool)
    return Dataset(rows, action, np.zeros(count, np.float32), rows + 1, ends, ~ends, env)


CONTINUOUS, CHOICES = np.full((4, 1), 1.5, np.float32), np.arange(4, dtype=np.int32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "spec", "message"),
    [
        (data_of(CONTINUOUS, env="Hopper-v5"), SPEC, "has transitions of Hopper-v5, but the run is on Pendulum-v1"),
        (
            data_of(CONTINUOUS, observation=3),
            SPEC,
            "observations of 3 entries and actions of 1 entries; Pendulum-v1 has",
        ),
        (data_of(np.ones((4, 2), np.float32)), SPEC, "actions of 2 entries; Pendulum-v1 has .* actions of 1 entries"),
        (data_of(CHOICES), SPEC, "discrete actions; Pendulum-v1 has .* actions of 1 entries"),
        (data_of(CONTINUOUS), Spec((2,), (), 5, num_actions=4), "actions of 1 entries; Pendulum-v1 has .* discrete"),
        (data_of(CHOICES), Spec((2,), (), 5, num_actions=3), "has the action 3; Pendulum-v1 has the actions 0 to 2"),
        (data_of(CONTINUOUS * 2), SPEC, r"action 3 \(step 0, entry 0\), which lies outside .* -2 to 2"),
        (data_of(CONTINUOUS), dataclasses.replace(SPEC, action_space=None), "action 1.5 .* -1 to 1"),
    ],
)
def test_data_of_another_environment_is_refused(tmp_path, data, spec, message):
    path = tmp_path / "data.npz"
    write_dataset(data, path)
    run = RunConfig(agent="cpl", env="Pendulum-v1", dataset=str(path))
    with pytest.raises(DataError, match=message) as error:
        read_transitions.load_dataset(run, spec)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_data_of_the_environment_is_read_in_the_agents_units(tmp_path):
    for number, env in enumerate((None, "Pendulum-v1", "some_module:Pendulum-v1")):
        path = tmp_path / f"{number}.npz"
        write_dataset(data_of(np.array([[-2.0], [1.0], [2.001]], np.float32), env=env), path)
        run = RunConfig(agent="cpl", env="Pendulum-v1", dataset=str(path))
        found = read_transitions.load_dataset(run, SPEC)
        edge = read_transitions.LARGEST_ACTION
        np.testing.assert_allclose(found.action, [[-edge], [0.5], [edge]], rtol=1e-6)
