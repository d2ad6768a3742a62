"""Data sets for tests: random walks, and files of them as other programs may have written them."""

from __future__ import annotations

import h5py
import numpy as np

from maxent_rl.data.datasets.dataset import ARRAYS, Dataset, join

KEYS = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")


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


def assert_same(found, expected, names=ARRAYS):
    for name in names:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert getattr(found, name).dtype == getattr(expected, name).dtype
