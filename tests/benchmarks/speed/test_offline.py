"""What the offline agents and their peers are measured on."""

import re

import numpy as np

from benchmarks.lab.measure import SPEED, spread
from benchmarks.speed import offline_probes, offline_tables
from maxent_rl.data.datasets.files import read_dataset


def test_the_peer_reads_the_arrays_that_are_written(tmp_path):
    offline_probes.write_random(tmp_path / "random.npz", 2_000)
    assert (read_dataset(tmp_path / "random.npz").episodes.length == 1_000).all()
    peer = SPEED / "peers" / "d3rlpy_offline.py"
    read = set(re.findall(r'archive\["(\w+)"\]', peer.read_text()))
    with np.load(tmp_path / "random.npz") as archive:
        assert read and read <= set(archive.files)


def test_the_table_of_speeds_has_both_ratios():
    speeds = {"maxent_rl iql": 90.0, "bare iql": 100.0, "d3rlpy iql": 30.0}
    result = {
        "settings": {"agents": ["iql"], "hidden_sizes": [8], "batch_size": 8, "cql_actions": 2, "repeats": 1},
        "summary": {name: {"updates_per_second": spread([value])} for name, value in speeds.items()},
        "ratios": {
            f"maxent_rl iql / {name}: updates_per_second": spread([90.0 / speeds[name]]) for name in list(speeds)[1:]
        },
        "versions": {},
        "hardware": {"summary": "CPU"},
        "runs": [],
    }
    assert "| IQL | 90 | 30 | 3 |  | 100 | 0.9 |" in offline_tables.table(result)
