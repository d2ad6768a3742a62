"""Minari's format: Minari reads what we write, we read what it writes, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import threading

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from walks import assert_same, walk

from maxent_rl.data.datasets.files import read_dataset, write_dataset
from maxent_rl.errors import DataError


def test_minari_reads_the_folder(tmp_path, monkeypatch):
    data = walk(ends="tcu", discrete=True)
    data = dataclasses.replace(data, env="CartPole-v1", about=data.about | {"num_actions": 3})
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    write_dataset(data, tmp_path / "own" / "walk-v0")
    found = minari.load_dataset("own/walk-v0")
    assert (found.total_episodes, found.total_steps, found.action_space.n) == (3, 8, 3)
    assert found.env_spec.id == "CartPole-v1" and found.id == "own/walk-v0"
    for episode, (start, length) in zip(found, zip(*data.episodes[:2], strict=True), strict=True):
        rows = slice(start, start + length)
        np.testing.assert_array_equal(episode.observations[:-1], data.observation[rows])
        np.testing.assert_array_equal(episode.observations[1:], data.next_observation[rows])
        np.testing.assert_array_equal(episode.actions, data.action[rows])
        np.testing.assert_array_equal(episode.rewards, data.reward[rows])
        np.testing.assert_array_equal(episode.terminations, data.terminated[rows])
        np.testing.assert_array_equal(episode.truncations, data.truncated[rows])
        assert "EpisodeData" in repr(episode) and episode.infos == {}
    assert_same(read_dataset("own/walk-v0"), data)  # by its name, as Minari has it


class Walk(gymnasium.Env):
    """Has no spaces, as nobody makes it."""


@pytest.mark.parametrize(
    "registered",
    [
        {"entry_point": Walk},
        {"entry_point": lambda: Walk()},
        {"entry_point": "walks:Walk", "kwargs": {"walls": np.ones(3)}},
        {"entry_point": "walks:Walk", "kwargs": {"lock": threading.Lock()}},
        {"entry_point": "walks:Walk", "kwargs": {"nested": {"reward": lambda state: 0.0}}},
    ],
    ids=["a class", "a function", "arrays", "what cannot be copied", "a function within"],
)
def test_an_environment_that_json_cannot_tell_does_not_lose_its_data(tmp_path, monkeypatch, registered):
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    monkeypatch.setattr(gymnasium, "registry", gymnasium.envs.registration.registry)
    gymnasium.register("Walk-v0", **registered)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = walk(ends="tcu", discrete=True)
    write_dataset(data, tmp_path / "own" / "walk-v0")
    assert_same(read_dataset("own/walk-v0"), data)
    assert read_dataset("own/walk-v0").env == "Walk-v0"
    found = minari.load_dataset("own/walk-v0")
    assert found.env_spec is None and found.total_steps == data.size


@pytest.mark.parametrize("name", ["walk-v0", "walk.npz"])
def test_notes_that_json_has_no_form_for_do_not_lose_the_data(tmp_path, name):
    notes = {"noise": np.float32(0.5), "gains": np.arange(2), "file": tmp_path, ("a", "b"): 1}
    data = dataclasses.replace(walk(ends="tcu", discrete=True), about=notes)
    write_dataset(data, tmp_path / name)
    found = read_dataset(tmp_path / name)
    assert_same(found, data)
    assert found.about == {"noise": 0.5, "gains": [0, 1], "file": str(tmp_path)}


@pytest.mark.parametrize("env_spec", [None, "", "{", "[]", '{"name": "walk"}', 7])
def test_a_description_of_the_environment_that_cannot_be_read_is_left_out(tmp_path, env_spec):
    folder = changed_minari(tmp_path / "walk-v0", {"env_spec": env_spec})
    path = folder / "data" / "metadata.json"
    told = json.loads(path.read_text())
    del told["maxent_rl"]
    path.write_text(json.dumps(told))
    found = read_dataset(folder)
    assert found.env is None and found.size == 8


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
def test_a_data_set_that_minari_collected(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = minari.DataCollector(gymnasium.make("CartPole-v1"))
    env.action_space.seed(0)
    rewards = []
    for seed in range(3):
        env.reset(seed=seed)
        done = False
        while not done:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            done = terminated or truncated
            rewards.append(reward)
    made = env.create_dataset("cart/random-v0", algorithm_name="dice")
    found = read_dataset("cart/random-v0")
    env.close()
    assert (found.env, found.about["algorithm_name"]) == ("CartPole-v1", "dice") and found.is_discrete
    assert found.size == len(rewards) == made.total_steps and found.terminated.sum() == 3
    np.testing.assert_allclose(found.observation[: len(made[0].rewards)], made[0].observations[:-1])
    assert_same(read_dataset(tmp_path / "cart" / "random-v0" / "data"), found)


def test_a_missing_minari_name_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(DataError, match="`minari download mujoco/hopper/expert-v0`"):
        read_dataset("mujoco/hopper/expert-v0")


def changed_minari(folder, metadata=None, **episode):
    """A folder with something else in the first episode, or in metadata.json; None deletes an array."""
    write_dataset(walk(ends="tcu", discrete=True), folder)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        for key, array in episode.items():
            del file["episode_0"][key]
            if array is not None:
                file["episode_0"][key] = array
    if metadata:
        path = folder / "data" / "metadata.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | metadata))
    return folder


def test_what_other_writers_of_minari_do(tmp_path):
    both = read_dataset(changed_minari(tmp_path / "both-v0", truncations=np.array([False, False, True])))
    assert both.terminated[2] and not both.truncated[2]
    none = read_dataset(changed_minari(tmp_path / "none-v0", terminations=np.zeros(3, bool)))
    assert none.truncated[2] and not none.terminated[2] and not none.episodes.complete[-1]
    space = json.dumps({"type": "Discrete", "dtype": "int64", "start": 7, "n": 3})
    folder = changed_minari(tmp_path / "seven-v0", {"action_space": space}, actions=np.array([7, 8, 9]))
    with pytest.raises(DataError, match=r"has the action 2 \(step 3\); its action space has 7 to 9"):
        read_dataset(folder)  # the other episodes count from 0
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        for index in (1, 2):
            file[f"episode_{index}"]["actions"][:] += 7
    np.testing.assert_array_equal(read_dataset(folder).action[:3], [0, 1, 2])


BROKEN_MINARI = {
    "no steps": ({"rewards": np.zeros(0)}, "episode_0, is empty"),
    "lengths": ({"observations": np.zeros((3, 2))}, "expected, for 3 steps"),
    "an end amid": ({"terminations": np.array([True, False, False])}, "has 3 steps, but ends at step 1"),
    "parts": ({"observations": None}, "has no observations"),
    "another width": ({"observations": np.zeros((4, 5))}, "differ in shape"),
    "NaN": ({"rewards": np.array([0.0, np.nan, 0.0])}, "rewards\\[1\\]"),
    "text": ({"actions": np.array([b"a", b"b", b"c"])}, "expected numbers"),
    "objects": ({"actions": np.array(["a", "b", "c"], object)}, "no array of numbers"),
    "count": ({"metadata": {"total_episodes": 9}}, "has 3 episodes; metadata.json says 9"),
    "format": ({"metadata": {"data_format": "arrow"}}, "data format 'arrow'"),
}


@pytest.mark.parametrize("name", BROKEN_MINARI)
def test_a_broken_minari_folder_is_refused(tmp_path, name):
    changes, message = BROKEN_MINARI[name]
    folder = changed_minari(tmp_path / "walk-v0", **changes)
    with pytest.raises(DataError, match=message) as error:
        read_dataset(folder)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_groups_missing_files_and_damaged_metadata_are_refused(tmp_path):
    folder = changed_minari(tmp_path / "walk-v0", observations=None)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        file["episode_0"].create_group("observations")
    with pytest.raises(DataError, match="observations of several parts"):
        read_dataset(folder)
    (folder / "data" / "main_data.hdf5").unlink()
    with pytest.raises(DataError, match=r"has no main_data\.hdf5"):
        read_dataset(folder)
    (folder / "data" / "metadata.json").write_text("{")
    with pytest.raises(DataError, match=r"metadata\.json is damaged"):
        read_dataset(folder)
