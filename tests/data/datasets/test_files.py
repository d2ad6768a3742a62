"""Data sets in files: three formats, whole and in pieces, and what is refused in one sentence."""

from __future__ import annotations

import builtins
import dataclasses
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walks import arrays_of, assert_same, walk, write_raw

from maxent_rl.data.datasets.dataset import ARRAYS, Dataset, join
from maxent_rl.data.datasets.files import open_chunks, read_dataset, write_dataset
from maxent_rl.errors import DataError, InvalidSettingError, MissingDependencyError

FORMATS = {"npz": "data.npz", "minari": "walk-v0", "hdf5": "data.hdf5"}
every_format = pytest.mark.parametrize("form", FORMATS)
every_file = pytest.mark.parametrize("form", ["npz", "hdf5"])


def written(folder, form, data):
    path = folder / FORMATS[form]
    if form == "hdf5":
        write_raw(path, **arrays_of(data))
    else:
        write_dataset(data, path)
    return path


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
