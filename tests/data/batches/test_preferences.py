"""Preferences over segments: the file, what is refused when it is read, and the batches."""

from __future__ import annotations

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.data.batches.preferences import PreferenceData, Preferences, compare, divide, read_preferences
from maxent_rl.errors import DataError

SEGMENTS, STEPS, PAIRS = 40, 4, 20


def preferences(**changes):
    """Segment n observes n throughout and scores n; pairs are neighbours."""
    number = np.arange(SEGMENTS, dtype=np.float32)
    arrays = {
        "observation": np.broadcast_to(number[:, None, None], (SEGMENTS, STEPS, 3)).copy(),
        "action": np.full((SEGMENTS, STEPS, 1), 0.5, np.float32),
        "pairs": np.arange(2 * PAIRS, dtype=np.int32).reshape(PAIRS, 2),
        "label": np.ones(PAIRS, np.float32),
        "env": "Pendulum-v1",
        "about": {"flip": 0.0},
        "score": number,
    }
    return Preferences(**(arrays | changes))


NO_PAIRS = {"pairs": np.zeros((0, 2), np.int32), "label": np.zeros(0, np.float32)}


def with_entry(array, index, value):
    changed = array.copy()
    changed[index] = value
    return changed


def test_what_is_written_is_read(tmp_path):
    data = preferences()
    data.save(tmp_path / "folder" / "data.npz")
    found = read_preferences(tmp_path / "folder" / "data.npz")
    for name in ("observation", "action", "pairs", "label", "score"):
        np.testing.assert_array_equal(getattr(found, name), getattr(data, name))
    assert (found.env, found.about) == (data.env, data.about)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["data.npz"]


def test_scores_are_optional(tmp_path):
    preferences(score=None).save(tmp_path / "data.npz")
    assert read_preferences(tmp_path / "data.npz").score is None


WRONG = {
    "steps of actions": (
        {"action": np.zeros((SEGMENTS, STEPS + 1, 1), np.float32)},
        "with the same segments and steps",
    ),
    "two axes": ({"observation": np.zeros((SEGMENTS, STEPS), np.float32)}, "expected \\[segments, steps, entries\\]"),
    "nothing": (
        {"observation": np.zeros((0, 4, 3), np.float32), "action": np.zeros((0, 4, 1), np.float32)},
        "is empty",
    ),
    "labels of other pairs": ({"label": np.ones(3, np.float32)}, "labels of shape \\(3,\\)"),
    "scores of other segments": ({"score": np.ones(3, np.float32)}, "scores of shape \\(3,\\)"),
    "NaN": ({"observation": with_entry(preferences().observation, (5, 1, 2), np.nan)}, "observation\\[5, 1, 2\\]"),
    "an infinite score": ({"score": with_entry(preferences().score, 2, np.inf)}, "score\\[2\\]"),
    "a large action": ({"action": np.full((SEGMENTS, STEPS, 1), 1.5, np.float32)}, "actions as large as 1.5"),
    "a label of 2": ({"label": with_entry(preferences().label, 1, 2.0)}, "has the label 2"),
    "a pair beyond": (
        {"pairs": with_entry(preferences().pairs, (0, 1), 99)},
        "segment 99, but has the segments 0 to 39",
    ),
    "a negative pair": ({"pairs": with_entry(preferences().pairs, (0, 1), -1)}, "compares segment -1"),
    "nothing compared": (NO_PAIRS | {"score": None}, "compares nothing"),
    "a share of 2": ({"about": {"flip": 2.0}}, "2 of its labels are wrong"),
}


@pytest.mark.parametrize("name", WRONG)
def test_impossible_data_is_refused_in_one_sentence(name, tmp_path):
    changes, message = WRONG[name]
    with pytest.raises(DataError, match=message):
        preferences(**changes).save(tmp_path / "data.npz")
    assert not list(tmp_path.iterdir())


def saved_raw(path, **changes):
    """A file as an older version, or another program, may have written it."""
    preferences().save(path)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


FILES = {
    "missing key": ({"label": None}, "it has no label"),
    "other format": ({"format": np.array("segments 9")}, "format 'segments 9'"),
    "no JSON": ({"about": np.array("{")}, "is damaged"),
    "no environment": ({"about": np.array(json.dumps({}))}, "is damaged"),
    "text": ({"label": np.array(["a"] * PAIRS)}, "expected numbers"),
    "pairs of fractions": ({"pairs": np.zeros((PAIRS, 2))}, "expected whole numbers"),
    "pairs beyond 32 bits": ({"pairs": np.full((PAIRS, 2), 2**40)}, "compares segment"),
    "objects": ({"label": np.array([{}] * PAIRS)}, "pickled objects, which are never read"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_something_else_is_refused(name, tmp_path):
    changes, message = FILES[name]
    saved_raw(tmp_path / "data.npz", **changes)
    with pytest.raises(DataError, match=message) as error:
        read_preferences(tmp_path / "data.npz")
    assert "\n" not in str(error.value)


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("The pickle was executed.",))


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps(Boom())], ids=["empty", "text", "pickle"])
def test_other_files_are_refused_and_never_executed(content, tmp_path):
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match="is not a data set of preferences"):
        read_preferences(tmp_path / "data.npz")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_preferences(tmp_path / "data.npz")
    with pytest.raises(DataError, match="is a folder"):
        read_preferences(tmp_path)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_truncated_file_is_refused(share, tmp_path):
    path = tmp_path / "data.npz"
    preferences().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"cut off|damaged"):
        read_preferences(path)


def test_a_flipped_byte_is_found(tmp_path):
    path = tmp_path / "data.npz"
    preferences().save(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"observation.npy") + 40] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_preferences(path)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        preferences().save(tmp_path / "data.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("first", "second", "label"), [(1.0, 2.0, 1.0), (2.0, 1.0, 0.0), (3.0, 3.0, 0.5)])
def test_labels_of_scores(first, second, label):
    assert compare(first, second) == label


@pytest.mark.slow
def test_fixed_pairs_are_drawn_with_their_labels():
    data, held_out = divide(preferences(label=np.linspace(0, 1, PAIRS).astype(np.float32)))
    assert data.size == 18  # a tenth is kept apart
    batch = jax.jit(lambda key: data.sample(key, 64))(jax.random.key(0))
    assert batch.observation.shape == (64, 2, STEPS, 3) and batch.action.shape == (64, 2, STEPS, 1)
    first, second = np.asarray(batch.observation[:, 0, 0, 0]), np.asarray(batch.observation[:, 1, 0, 0])
    np.testing.assert_array_equal(second, first + 1)
    np.testing.assert_allclose(batch.label, first / 2 / (PAIRS - 1), rtol=1e-6)
    assert set(first) == set(range(0, 36, 2))
    np.testing.assert_array_equal(held_out.observation[:, :, 0, 0], [[36, 37], [38, 39]])


@pytest.mark.slow
def test_without_pairs_any_two_segments_are_compared_by_score():
    data, held_out = divide(preferences(**NO_PAIRS))
    batch = data.sample(jax.random.key(0), 4096)
    first, second = np.asarray(batch.observation[:, 0, 0, 0]), np.asarray(batch.observation[:, 1, 0, 0])
    assert (first != second).all() and set(first) == set(second) == set(range(36))
    np.testing.assert_array_equal(batch.label, first < second)
    assert np.asarray(held_out.observation).min() == 36


@pytest.mark.slow
def test_a_pair_of_scored_segments_is_turned_round_always_or_never():
    data, _ = divide(preferences(**NO_PAIRS, about={"flip": 0.3}))
    batch = data.sample(jax.random.key(0), 8192)
    first, second = (np.asarray(batch.observation[:, index, 0, 0]).astype(int) for index in (0, 1))
    wrong = np.asarray(batch.label != (first < second))
    seen = {}
    for low, high, turned in zip(np.minimum(first, second), np.maximum(first, second), wrong, strict=True):
        assert seen.setdefault((low, high), turned) == turned
    assert 0.2 < np.mean(list(seen.values())) < 0.4


def test_small_data_are_learned_from_whole():
    few = preferences(pairs=np.array([[0, 1]], np.int32), label=np.ones(1, np.float32))
    data, held_out = divide(few)
    assert data.size == 1 and held_out is None


@pytest.mark.slow
def test_seeds_share_one_copy():
    data, _ = divide(preferences())
    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.vmap(lambda key, shared: shared.sample(key, 5), in_axes=(0, None))(keys, data)
    for index in range(3):
        alone = data.sample(keys[index], 5)
        assert jnp.array_equal(together.observation[index], alone.observation)
    assert isinstance(data, PreferenceData)
