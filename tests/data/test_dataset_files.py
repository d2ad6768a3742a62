"""Data sets in files: three formats, whole and in pieces, and what is refused in one sentence."""

from __future__ import annotations

import builtins
import dataclasses
import json
import pickle
import sys

import h5py
import minari
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxent_rl.data.dataset import ARRAYS, Dataset, join
from maxent_rl.data.dataset_files import open_chunks, read_dataset, write_dataset
from maxent_rl.errors import DataError, InvalidSettingError, MissingDependencyError

KEYS = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
FORMATS = {"npz": "data.npz", "minari": "walk-v0", "hdf5": "data.hdf5"}
every_format = pytest.mark.parametrize("form", FORMATS)
every_file = pytest.mark.parametrize("form", ["npz", "hdf5"])


def walk(lengths=(3, 1, 4), ends="tct", discrete=False, seed=0):
    """Episodes of a random walk in the plane; each ends (t)erminated, (c)ut, or is (u)nfinished, as the last one can be."""
    rng = np.random.default_rng(seed)
    parts = []
    for length, end in zip(lengths, ends, strict=True):
        observation = rng.normal(size=(length + 1, 2)).astype(np.float32)
        last = np.arange(length) == length - 1
        action = rng.integers(0, 3, length).astype(np.int32) if discrete else rng.uniform(-2, 2, (length, 1))
        parts.append(
            Dataset(
                observation[:-1],
                action if discrete else action.astype(np.float32),
                rng.normal(size=length).astype(np.float32),
                observation[1:],
                last & (end == "t"),
                last & (end == "c"),
                "Walk-v0",
                {"kind": "random", "seed": seed, "action_low": [-2.0], "action_high": [2.0]},
            )
        )
    return join(parts)


def arrays_of(data):
    return dict(zip(KEYS, (getattr(data, name) for name in ARRAYS), strict=True))


def write_raw(path, **arrays):
    """A file as another program may have written it; None leaves an array out."""
    arrays = {key: array for key, array in arrays.items() if array is not None}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array


def written(folder, form, data):
    path = folder / FORMATS[form]
    if form == "hdf5":
        write_raw(path, **arrays_of(data))
    else:
        write_dataset(data, path)
    return path


def assert_same(found, expected, names=ARRAYS):
    for name in names:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert getattr(found, name).dtype == getattr(expected, name).dtype


@every_format
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("last", "tcu")
def test_what_is_written_is_read_whole_and_in_pieces(tmp_path, form, discrete, last):
    data = walk(ends="tc" + last, discrete=discrete)
    path = written(tmp_path, form, data)
    found = read_dataset(path)
    assert_same(found, data)
    if form != "hdf5":
        assert (found.env, found.about) == (data.env, data.about)
    for size in (1, 2, 3, 7, 100):
        pieces = list(open_chunks(path, size))
        assert all(0 < piece.size <= size and piece.env == found.env for piece in pieces)
        assert_same(join(pieces), data)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from("tc")), min_size=1, max_size=6), st.integers(1, 9), st.data()
)
def test_pieces_are_the_whole_whatever_the_episodes(tmp_path_factory, episodes, size, data):
    form = data.draw(st.sampled_from(sorted(FORMATS)))
    made = walk([length for length, _ in episodes], [end for _, end in episodes])
    path = written(tmp_path_factory.mktemp("walk"), form, made)
    assert_same(join(list(open_chunks(path, size))), made)


def test_episodes_and_returns_of_a_data_set():
    data = walk(ends="tcu")
    start, length, complete = data.episodes
    assert (start.tolist(), length.tolist(), complete.tolist()) == ([0, 3, 4], [3, 1, 4], [True, True, False])
    np.testing.assert_allclose(data.returns, [data.reward[:3].sum(dtype=np.float64), data.reward[3]])


# Minari reads what we write, and we read what it writes.


def test_minari_reads_the_folder(tmp_path, monkeypatch):
    data = walk(ends="tcu", discrete=True)
    data = dataclasses.replace(data, env="CartPole-v1", about=data.about | {"num_actions": 3})
    write_dataset(data, tmp_path / "own" / "walk-v0")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    found = minari.load_dataset("own/walk-v0")
    assert (found.total_episodes, found.total_steps, found.action_space.n) == (3, 8, 3)
    assert found.env_spec.id == "CartPole-v1"
    for episode, (start, length) in zip(found, zip(*data.episodes[:2], strict=True), strict=True):
        rows = slice(start, start + length)
        np.testing.assert_array_equal(episode.observations[:-1], data.observation[rows])
        np.testing.assert_array_equal(episode.observations[1:], data.next_observation[rows])
        np.testing.assert_array_equal(episode.actions, data.action[rows])
        np.testing.assert_array_equal(episode.rewards, data.reward[rows])
        np.testing.assert_array_equal(episode.terminations, data.terminated[rows])
        np.testing.assert_array_equal(episode.truncations, data.truncated[rows])
    assert_same(read_dataset("own/walk-v0"), data)  # by its name, as Minari has it


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
def test_a_data_set_that_minari_collected(tmp_path, monkeypatch):
    import gymnasium

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
    with pytest.raises(DataError, match="has the action -"):
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


# What files of other programs lack, and how they write what they have.


@every_file
@pytest.mark.parametrize("size", [None, 1, 2, 3, 5])
def test_without_next_observations_the_row_below_says_what_a_step_led_to(tmp_path, form, size):
    """Episodes of 3 (terminated), 3 (cut), 1 (cut) and 3 (unfinished) steps: of the latter three the last step is lost."""
    data = walk((3, 3, 1, 3), "tccu")
    path = tmp_path / FORMATS[form]
    write_raw(path, **arrays_of(data) | {"next_observations": None})
    found = read_dataset(path) if size is None else join(list(open_chunks(path, size)))
    kept = [0, 1, 2, 3, 4, 7, 8]
    assert_same(found, data.part(0, 0) if not kept else join([data.part(row, row + 1) for row in kept]), ARRAYS[:3])
    assert found.terminated.nonzero()[0].tolist() == [2] and found.truncated.nonzero()[0].tolist() == [4]
    expected = [*data.next_observation[:2], data.observation[2], *data.next_observation[[3, 4, 7, 8]]]
    np.testing.assert_array_equal(found.next_observation, expected)
    assert found.episodes.length.tolist() == [3, 2, 2] and not found.episodes.complete[-1]


@every_file
@pytest.mark.parametrize("size", [None, 1, 3])
def test_without_timeouts_a_jump_is_a_boundary(tmp_path, form, size):
    data = walk(ends="tcu")
    path = tmp_path / FORMATS[form]
    write_raw(path, **arrays_of(data) | {"timeouts": None})
    assert_same(read_dataset(path) if size is None else join(list(open_chunks(path, size))), data)


@every_file
def test_with_neither_nobody_can_tell(tmp_path, form):
    path = tmp_path / FORMATS[form]
    write_raw(path, **arrays_of(walk()) | {"timeouts": None, "next_observations": None})
    with pytest.raises(DataError, match="nobody can tell where time limits cut"):
        read_dataset(path)


@every_file
def test_other_types_and_shapes_of_the_same_numbers(tmp_path, form):
    data = walk(discrete=True)
    path = tmp_path / FORMATS[form]
    arrays = arrays_of(data)
    arrays["observations"] = np.asfortranarray(arrays["observations"].astype(np.float64))
    arrays["rewards"] = arrays["rewards"][:, None]
    arrays["actions"] = arrays["actions"][:, None].astype(np.int64)
    arrays["terminals"], arrays["timeouts"] = data.terminated.astype(np.uint8), data.truncated.astype(np.float32)
    write_raw(path, **arrays)
    assert_same(read_dataset(path), data)
    assert_same(join(list(open_chunks(path, 3))), data)


@every_file
def test_observations_of_several_axes_are_flattened(tmp_path, form):
    data = walk()
    wide = {key: np.stack([arrays_of(data)[key]] * 3, axis=1) for key in ("observations", "next_observations")}
    path = tmp_path / FORMATS[form]
    write_raw(path, **arrays_of(data) | wide)
    found = read_dataset(path)
    np.testing.assert_array_equal(found.observation, np.tile(data.observation, 3))


def test_a_step_that_d4rl_flags_twice_is_terminal(tmp_path):
    data = walk()
    write_raw(tmp_path / "data.h5", **arrays_of(data) | {"timeouts": data.terminated | data.truncated})
    assert_same(read_dataset(tmp_path / "data.h5"), data)


# What is refused.


def changed(key, value, index=...):
    array = arrays_of(walk())[key].copy()
    array[index] = value
    return {key: array}


WRONG = {
    "NaN reward": (changed("rewards", np.nan, 5), "rewards\\[5\\]"),
    "NaN observation": (changed("observations", np.inf, (1, 1)), "observations\\[1, 1\\]"),
    "too large for 32 bits": ({"rewards": np.full(8, 1e300)}, "NaN or infinity: rewards\\[0\\]"),
    "lengths": ({"rewards": np.zeros(3)}, "arrays of different lengths: .*rewards \\[3\\]"),
    "no axes": ({"rewards": np.float32(0)}, "arrays of different lengths"),
    "wide rewards": ({"rewards": np.zeros((8, 2))}, "rewards of shape \\(8, 2\\)"),
    "flat observations": (
        {"observations": np.zeros(8), "next_observations": np.zeros(8)},
        "observations of shape \\(8,\\)",
    ),
    "other observations": ({"next_observations": np.zeros((8, 3))}, "expected the same shape"),
    "flat real actions": ({"actions": np.zeros(8)}, "or whole numbers \\[N\\] for discrete ones"),
    "several choices": ({"actions": np.zeros((8, 2), int)}, "expected one whole number for each step"),
    "negative choices": ({"actions": np.full(8, -1)}, "has the action -1; discrete actions count from 0"),
    "large choices": ({"actions": np.full(8, 2**40)}, "has the action 1099511627776"),
    "text": ({"actions": np.array([b"a"] * 8)}, "expected numbers"),
    "complex": ({"rewards": np.zeros(8, complex)}, "type complex128; expected numbers"),
    "flags of 2": ({"terminals": np.full(8, 2)}, "terminals of 2; expected 0 or 1"),
    "a lost boundary": ({"timeouts": np.zeros(8, bool)}, "step 3 did not lead to the observation of step 4"),
    "no rewards": ({"rewards": None}, "has no rewards"),
    "empty": ({key: array[:0] for key, array in arrays_of(walk()).items()}, "is empty: it holds no transition"),
}


@every_file
@pytest.mark.parametrize("name", WRONG)
def test_impossible_data_is_refused_in_one_sentence(tmp_path, form, name):
    changes, message = WRONG[name]
    path = tmp_path / FORMATS[form]
    write_raw(path, **arrays_of(walk()) | changes)
    with pytest.raises(DataError, match=message) as whole:
        read_dataset(path)
    assert "\n" not in str(whole.value) and str(path) in str(whole.value)
    with pytest.raises(DataError, match="|".join([message, "shape"])):
        list(open_chunks(path, 3))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_faults_in_later_pieces_are_found_where_they_are(tmp_path, size):
    """A broken episode is found across the seam of two pieces, and NaN by its place in the file."""
    write_raw(tmp_path / "data.npz", **arrays_of(walk((4, 4), "tc")) | changed("rewards", np.nan, 6))
    with pytest.raises(DataError, match="rewards\\[6\\]"):
        list(open_chunks(tmp_path / "data.npz", size))
    data = walk((8,), "t")
    moved = data.observation.copy()
    moved[4] += 1e-3
    write_raw(tmp_path / "other.npz", **arrays_of(data) | {"observations": moved})
    with pytest.raises(DataError, match="step 3 did not lead to the observation of step 4"):
        list(open_chunks(tmp_path / "other.npz", size))


def test_rounding_is_no_boundary(tmp_path):
    data = walk()
    write_raw(tmp_path / "data.npz", **arrays_of(data) | {"observations": data.observation * np.float32(1 + 5e-6)})
    assert read_dataset(tmp_path / "data.npz").episodes.length.tolist() == [3, 1, 4]


@pytest.mark.parametrize("name", ["data.npz", "walk-v0"])
def test_data_that_is_not_sound_is_not_written(tmp_path, name):
    data = walk()
    for wrong in (
        {"truncated": data.terminated | data.truncated},
        {"reward": np.full(8, np.nan, np.float32)},
        {"reward": np.zeros(7, np.float32)},
        {"action": data.action[:, 0]},
        {field: getattr(data, field)[:0] for field in ARRAYS},
    ):
        with pytest.raises(DataError, match=name):
            write_dataset(dataclasses.replace(data, **wrong), tmp_path / name)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"NAME.npz.* or as Minari folders"):
        write_dataset(data, tmp_path / "data.csv")


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("The pickle was executed.",))


@every_file
@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps(Boom())], ids=["empty", "text", "pickle"])
def test_other_files_are_refused_and_never_executed(tmp_path, form, content):
    path = tmp_path / FORMATS[form]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is not a data set of transitions|is damaged"):
        read_dataset(path)


def test_pickles_within_an_archive_are_never_executed(tmp_path):
    write_raw(tmp_path / "data.npz", **arrays_of(walk()) | {"rewards": np.array([Boom()] * 8, object)})
    with pytest.raises(DataError, match="pickled objects, which are never read"):
        read_dataset(tmp_path / "data.npz")


@every_format
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused_whole(tmp_path, form, share):
    path = written(tmp_path, form, walk((50, 50), "tc"))
    file = path / "data" / "main_data.hdf5" if form == "minari" else path
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    for read in (read_dataset, lambda path: list(open_chunks(path, 10))):
        with pytest.raises(DataError, match=r"cut off|damaged") as error:
            read(path)
        assert "\n" not in str(error.value)


def test_a_flipped_byte_of_an_archive_is_found(tmp_path):
    path = written(tmp_path, "npz", walk((500,), "t"))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))
    for read in (read_dataset, lambda path: list(open_chunks(path, 100))):
        with pytest.raises(DataError, match="is damaged"):
            read(path)


def test_paths_without_a_data_set_are_refused_at_once(tmp_path):
    (tmp_path / "data.csv").write_text("1,2")
    for path, message in (
        (tmp_path / "none.npz", "does not exist"),
        (tmp_path, "without data/metadata.json"),
        (tmp_path / "data.csv", r"ends in .npz, .hdf5, .h5, or a folder"),
    ):
        with pytest.raises(DataError, match=message):
            read_dataset(path)
        with pytest.raises(DataError, match=message):
            open_chunks(path, 5)
    with pytest.raises(InvalidSettingError, match="1 transition at least"):
        open_chunks(tmp_path, 0)


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    path = written(tmp_path, "minari", walk())
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    for used in (lambda: read_dataset(path), lambda: write_dataset(walk(), tmp_path / "other-v0")):
        with pytest.raises(MissingDependencyError, match=r"pip install 'maxent_rl\[offline\]'"):
            used()
    assert not (tmp_path / "other-v0").exists() and "h5py" in sys.modules
    write_dataset(walk(), tmp_path / "data.npz")
    assert_same(read_dataset(tmp_path / "data.npz"), walk())


@every_format
def test_pieces_take_the_memory_of_a_piece(tmp_path, form):
    """20,000 transitions of 100 entries are 16 MB; going over them by 200 takes a tenth of that at most."""
    import tracemalloc

    rng = np.random.default_rng(0)
    observation = rng.normal(size=(20_001, 100)).astype(np.float32)
    ends = np.arange(20_000) == 19_999
    data = Dataset(
        observation[:-1],
        np.zeros((20_000, 1), np.float32),
        np.zeros(20_000, np.float32),
        observation[1:],
        ends,
        ~ends & ends,
    )
    path = written(tmp_path, form, data)
    tracemalloc.start()
    try:
        assert sum(piece.size for piece in open_chunks(path, 200)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 0.1 * 2 * observation.nbytes
    finally:
        tracemalloc.stop()
