"""`experiments/dataset.py preferences`: segments, labels by regret, pairs, and errors in one sentence."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import AGENTS_UNDER_TEST
from dataset import main
from environments import HostPoint, Point
from support.closeness import rounding

from maxent_rl import envs, train
from maxent_rl.data.batches.preferences import read_preferences
from maxent_rl.errors import CheckpointError, DataError, InvalidSettingError, PolicyError
from maxent_rl.playing.trajectories import Trajectory
from maxent_rl.runs.policy import load_policy
from maxent_rl.runs.state import load_state, state_values
from maxent_rl.sources import preferences as making

SAC = AGENTS_UNDER_TEST["sac"].agent


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of SAC with two seeds on Pendulum."""
    settings = {"total_steps": 30, "num_seeds": 2, "eval_episodes": 1, "eval_every": 0, "progress": False}
    return train(SAC, "Pendulum", output_dir=str(tmp_path_factory.mktemp("runs")), **settings)


def test_a_segment_never_crosses_an_episodes_end():
    """Steps 0 to 9 in segments of 4: two of them, and a rest of two steps that is left out."""
    observation = np.arange(11, dtype=np.float32)[:, None]
    trajectory = Trajectory(observation, observation[:-1] / 10, np.arange(10, dtype=np.float32))
    segments = making.cut(trajectory, 4)
    np.testing.assert_array_equal(segments.observation[..., 0], [[0, 1, 2, 3], [4, 5, 6, 7]])
    np.testing.assert_array_equal(segments.reward, [[0, 1, 2, 3], [4, 5, 6, 7]])
    np.testing.assert_allclose(segments.action[1, :, 0], [0.4, 0.5, 0.6, 0.7], rtol=rounding(2))


def test_regret_scores_by_hand():
    """With V(s) = 10 s: rewards of all steps but the last, plus V at the last observation, less V at the first."""
    observation = np.array([[[1.0], [2.0], [4.0]], [[4.0], [2.0], [1.0]]], np.float32)
    reward = np.array([[1.0, 2.0, 100.0], [3.0, 4.0, 100.0]], np.float32)
    segments = making.Segments(observation, np.zeros((2, 3, 1), np.float32), reward)
    found = making.regret_score(segments, lambda seen: 10.0 * seen[:, 0])
    np.testing.assert_allclose(found, [3.0 + 30.0, 7.0 - 30.0])
    np.testing.assert_allclose(making.return_score(segments), [103.0, 107.0])


class HandMade:
    """Acts +-1 by the flip of a coin; two critics, Q1 = 3 o + a and Q2 = o + a."""

    def act(self, state, observation, key):
        return jnp.sign(jax.random.normal(key, observation.shape))

    def action_values(self, state, observation, action, key):
        return jnp.stack([3.0 * observation[..., 0] + action[..., 0], observation[..., 0] + action[..., 0]])


def test_the_value_is_the_mean_over_the_policys_actions_and_both_critics():
    observation = jnp.array([[1.0], [-2.0], [5.0]])
    found = state_values(HandMade(), None, observation, jax.random.key(0), samples=4096)
    np.testing.assert_allclose(found, 2.0 * observation[:, 0], atol=0.1)


def test_pairs_use_segments_evenly_and_keep_the_last_tenth_apart():
    pairs = making.draw_pairs(100, None, np.random.default_rng(0))
    assert pairs.shape == (50, 2) and sorted(pairs.ravel()) == list(range(100))
    assert (pairs[:-5] < 90).all() and (pairs[-5:] >= 90).all()
    many = making.draw_pairs(100, 1000, np.random.default_rng(0))
    assert many.shape == (1000, 2) and (many[:, 0] != many[:, 1]).all()
    assert (many[:900] < 90).all() and (many[900:] >= 90).all()
    assert making.draw_pairs(100, 0, np.random.default_rng(0)).shape == (0, 2)
    with pytest.raises(DataError, match="no two can be compared"):
        making.draw_pairs(1, None, np.random.default_rng(0))


def test_ties_are_not_turned_round():
    label = np.array([0.0, 0.5, 1.0] * 1000, np.float32)
    flipped = making.flip_labels(label, 0.3, np.random.default_rng(0))
    assert (flipped[1::3] == 0.5).all()
    assert 0.25 < np.mean(flipped[::3] != 0.0) < 0.35


@pytest.mark.slow
def test_a_file_is_made_and_told_of(run, tmp_path, capsys):
    path = tmp_path / "data.npz"
    flags = ["--policy", str(run.folder), "--oracle", str(run.folder), "--episodes", "3", "--length", "32"]
    flags = ["preferences", *flags, "--flip", "0.5", "--output", str(path)]
    assert main(flags) == 0
    told = capsys.readouterr().out
    assert "9 pairs of 18 segments of 32 steps from Pendulum-v1" in told and "labels by regret" in told
    data = read_preferences(path)
    assert data.observation.shape == (18, 32, 3) and data.action.shape == (18, 32, 1)
    assert data.env == "Pendulum-v1" and data.about["flip"] == 0.5 and data.about["episodes"] == 3
    assert np.abs(data.action).max() <= 1 - 1e-5 + 1e-7
    clean = (data.score[data.pairs[:, 0]] < data.score[data.pairs[:, 1]]).astype(np.float32)
    assert np.sum(clean != data.label) == data.about["flipped"]
    assert main(flags) == 1
    assert "is there already" in capsys.readouterr().err
    again = tmp_path / "again.npz"
    assert main([*flags[:-1], str(again)]) == 0
    np.testing.assert_array_equal(read_preferences(again).label, data.label)


@pytest.mark.slow
def test_regret_follows_from_the_oracles_critics(run):
    """A score is the hand-made sum, with the values of the seed asked for."""
    oracle = load_state(run.folder, seed=1)
    state = jax.tree.map(lambda leaf: leaf[1], run.states)
    for one, other in zip(jax.tree.leaves(oracle.state), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(one, other)
    assert oracle.step == 30 and oracle.policy.env == "Pendulum-v1"
    plan = making.Making(episodes=2, length=50, pairs=0)
    data, told = making.make_preferences(load_policy(run.folder), plan, oracle)
    first = state_values(oracle.agent, oracle.state, data.observation[:, 0], jax.random.key(0))
    last = state_values(oracle.agent, oracle.state, data.observation[:, -1], jax.random.key(1))
    by_return, _ = making.make_preferences(load_policy(run.folder), dataclasses.replace(plan, label="return"), None)
    np.testing.assert_array_equal(by_return.observation, data.observation)  # labels change nothing that is played
    paid = data.score - np.asarray(last) + np.asarray(first)
    assert told["segments"] == 8 and (paid < 0).all() and (by_return.score < paid + 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("env", [HostPoint, Point()], ids=["host", "device"])
def test_hosts_and_devices_play_alike(env, tmp_path):
    """Observations of a segment follow from one another by its clipped, noisy actions."""
    result = train(SAC, env, total_steps=30, eval_every=0, eval_episodes=1, output_dir=str(tmp_path), progress=False)
    from maxent_rl.playing.trajectories import collect_trajectories

    choose = making.partial(making.noisy_action, 2.0)
    (trajectory,) = collect_trajectories(result.policy(), 1, choose=choose, env=env)
    segments = making.cut(trajectory, 10)
    moved = segments.observation[:, :-1] + 0.1 * segments.action[:, :-1]
    np.testing.assert_allclose(moved, segments.observation[:, 1:], atol=1e-5)
    assert np.abs(segments.action).max() == 1.0 and segments.reward.shape == (2, 10)


@pytest.mark.slow
def test_errors_are_one_sentence(run, tmp_path, capsys):
    output = ["--output", str(tmp_path / "data.npz")]
    policy = ["preferences", "--policy", str(run.folder), "--episodes", "1"]
    for flags, message in (
        ([*policy, *output], "need --oracle RUN"),
        ([*policy, *output, "--label", "return", "--length", "500"], "No episode has 500 steps (the longest has 200)"),
        ([*policy, *output, "--label", "return", "--segments", "99"], "these episodes have 3"),
        ([*policy, "--output", str(tmp_path / "data.csv")], "must end in .npz"),
        ([*policy, *output, "--oracle", str(tmp_path)], "There is no run at"),
        (
            [*policy, *output, "--label", "return", "--oracle", "x"],
            "--oracle has no effect here: it is used only with --label",
        ),
        ([*policy, *output, "--label", "return", "--pairs", "0", "--flip", "0.1"], "--flip has no effect here"),
        ([*policy, *output, "--flip", "2"], "--flip must be at least 0 and at most 1"),
        (["preferences", "--policy", str(tmp_path), *output], "There is no policy in"),
    ):
        assert main(flags) == 1
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_oracles_without_critics_checkpoints_or_policies_are_refused(run, tmp_path):
    policy = load_policy(run.folder)
    with pytest.raises(CheckpointError, match="has checkpoints of the steps \\[30\\], not of 7"):
        load_state(run.folder, step=7)
    (tmp_path / "config.json").write_text((run.folder / "config.json").read_text())
    with pytest.raises(PolicyError, match="no policy yet"):
        load_state(tmp_path)
    (tmp_path / "policy").symlink_to(run.folder / "policy")
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        load_state(tmp_path)
    oracle = load_state(run.folder)
    without = oracle._replace(agent=AGENTS_UNDER_TEST["ppo"].agent)
    with pytest.raises(InvalidSettingError, match="such as sac; the oracle is a PPO"):
        making.check_sources(policy, making.Making(), without)
    assert envs.canonical_name("Pendulum") == policy.env
