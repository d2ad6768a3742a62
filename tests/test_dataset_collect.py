"""`experiments/dataset.py collect`: what is written and told, and errors in one sentence."""

from __future__ import annotations

from pathlib import Path

import minari
import numpy as np
import pytest
from dataset import main
from teachers import make_teacher

from maxent_rl import envs
from maxent_rl.data.datasets.dataset import ARRAYS
from maxent_rl.data.datasets.files import read_dataset


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    env = envs.make_device("maxent/MultiGoal")
    return make_teacher(tmp_path_factory.mktemp("teacher"), env=env, env_name="maxent/MultiGoal")


def test_random_transitions_as_an_archive_and_as_a_minari_folder(tmp_path, capsys, monkeypatch):
    flags = ["collect", "--env", "CartPole", "--kind", "random", "--size", "300", "--output"]
    paths = tmp_path / "cart.npz", tmp_path / "cart" / "random-v0"
    for path in paths:
        assert main([*flags, str(path)]) == 0
        told = capsys.readouterr().out
        assert f"{path}: 300 transitions of CartPole-v1, random" in told and "mean return" in told
        assert f"--agent cql-discrete --env CartPole-v1 --dataset {path}" in told
    first, second = map(read_dataset, paths)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.about == second.about and first.env == second.env == "CartPole-v1"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert minari.load_dataset("cart/random-v0").total_steps == 300
    assert f"{len(first.episodes.start)} episodes" in told


@pytest.mark.slow
def test_images_are_collected_and_no_agent_is_named_that_would_refuse_them(tmp_path, capsys):
    path = tmp_path / "catch.npz"
    assert main(["collect", "--env", "maxent/Catch", "--kind", "random", "--size", "14", "--output", str(path)]) == 0
    told, data = capsys.readouterr().out, read_dataset(path)
    assert "--agent" not in told and "its observations end in images" in told
    assert data.observation.shape == (14, 1024) and set(np.unique(data.observation)) == {0.0, 255.0}


@pytest.mark.slow
def test_a_policy_with_noise(policy, tmp_path, capsys):
    path = tmp_path / "noisy.npz"
    flags = ["collect", "--policy", policy, "--kind", "noisy", "--noise", "0.3", "--size", "50", "--seed", "5"]
    assert main([*flags, "--output", str(path)]) == 0
    assert "--agent iql" in capsys.readouterr().out
    about = read_dataset(path).about
    assert (about["kind"], about["noise"], about["seed"], about["policy"]) == ("noisy", 0.3, 5, policy)


@pytest.mark.slow
def test_an_episode_that_did_not_end_has_no_return(policy, tmp_path, capsys):
    assert main(["collect", "--policy", policy, "--size", "2", "--output", str(tmp_path / "few.npz")]) == 0
    assert "1 episode, the last unfinished; no return" in capsys.readouterr().out


def test_errors_are_one_sentence(policy, tmp_path, capsys):
    (tmp_path / "there.npz").write_text("something")
    output = ["--output", str(tmp_path / "data.npz")]
    for flags, message in (
        ([*output], "--kind expert needs --policy RUN"),
        (["--kind", "random", *output], "need --env NAME"),
        (["--kind", "random", "--env", "CartPoll", *output], "Did you mean 'CartPole-v1'"),
        (["--policy", str(tmp_path), *output], "There is no policy in"),
        (["--policy", policy, "--kind", "replay", *output], "There is no run at"),
        (
            ["--policy", policy, "--env", "CartPole", *output],
            "trained on maxent/MultiGoal, with observations (2,) and actions (2,); CartPole-v1 has observations (4,)",
        ),
        (["--policy", policy, "--size", "0", *output], "--size must be at least 1"),
        (
            ["--policy", policy, "--noise", "0.1", *output],
            "--noise has no effect here: it is used only with --kind noisy.",
        ),
        (["--policy", policy, "--num-envs", "2", *output], "with environments on the host"),
        (["--env", "CartPole", "--kind", "random", "--policy-seed", "1", *output], "used only with --policy."),
        (["--policy", policy, "--output", str(tmp_path / "there.npz")], "is there already"),
        (["--policy", policy, "--output", str(tmp_path / "data.hdf5")], "as Minari folders"),
    ):
        assert main(["collect", *flags]) == 1
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1, error
    assert [path.name for path in tmp_path.iterdir()] == ["there.npz"]


def test_data_sets_are_joined(tmp_path, capsys):
    parts = [str(tmp_path / name) for name in ("first.npz", "second.npz")]
    for seed, part in enumerate(parts):
        flags = ["collect", "--env", "CartPole", "--kind", "random", "--size", "60", "--seed", str(seed)]
        assert main([*flags, "--output", part]) == 0
    both = tmp_path / "both.npz"
    capsys.readouterr()
    assert main(["join", *parts, "--output", str(both)]) == 0
    assert f"{both}: 120 transitions of CartPole-v1\n" in capsys.readouterr().out
    first, second, joined = map(read_dataset, [*parts, both])
    for name in set(ARRAYS) - {"truncated"}:
        np.testing.assert_array_equal(
            getattr(joined, name), np.concatenate([getattr(first, name), getattr(second, name)])
        )
    assert len(joined.episodes.start) == len(first.episodes.start) + len(second.episodes.start)
    assert "seed" not in joined.about and joined.about["kind"] == "random"
    assert main(["join", *parts, "--output", str(both)]) == 1
    assert "is there already" in capsys.readouterr().err


def test_only_data_sets_of_one_environment_are_joined(tmp_path, capsys):
    parts = [str(tmp_path / f"{env}.npz") for env in ("CartPole", "Pendulum")]
    for part in parts:
        assert main(["collect", "--env", Path(part).stem, "--kind", "random", "--size", "20", "--output", part]) == 0
    assert main(["join", *parts, "--output", str(tmp_path / "both.npz")]) == 1
    assert "Only data sets of one environment can be joined" in capsys.readouterr().err
    assert not (tmp_path / "both.npz").exists()
