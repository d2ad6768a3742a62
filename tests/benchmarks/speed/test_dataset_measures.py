"""The data that is measured, and counting by sketches beside counting."""

from __future__ import annotations

import numpy as np

from benchmarks.lab.measure import ROOT
from benchmarks.speed import dataset_measures as benchmark
from maxent_rl.data.datasets.files import read_dataset


def test_data_of_halfcheetahs_shapes_are_sound(tmp_path):
    benchmark.write(str(tmp_path), 2500, 0)
    data = read_dataset(tmp_path / "data.npz")
    assert data.observation.shape == (2500, 17) and data.action.shape == (2500, 6)
    assert data.episodes.length.tolist() == [1000, 1000, 500]
    assert not np.array_equal(data.reward, read_dataset(tmp_path / "reference.npz").reward)


def test_items_are_counted_both_ways():
    values = benchmark.items(5000, 0).values
    assert values["exact"] == 5000 and abs(values["standard_errors"]) < 3


def test_the_command_that_is_timed_is_there():
    assert (ROOT / "experiments" / "dataset.py").is_file()
