"""What the offline agents and their peers are measured on."""

import re
from pathlib import Path

import numpy as np
import offline_probes

from maxent_rl.data.datasets.files import read_dataset


def test_the_peer_reads_the_arrays_that_are_written(tmp_path):
    offline_probes.write_random(tmp_path / "random.npz", 2_000)
    assert (read_dataset(tmp_path / "random.npz").episodes.length == 1_000).all()
    peer = Path(offline_probes.__file__).parent / "peers" / "d3rlpy_offline.py"
    read = set(re.findall(r'archive\["(\w+)"\]', peer.read_text()))
    with np.load(tmp_path / "random.npz") as archive:
        assert read and read <= set(archive.files)
