"""Data sets as plain npz archives: the arrays of D4RL's files, with the environment and how it was made as strings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from maxent_rl.data.datasets.arrays_of_files import OPTIONAL, REQUIRED, column_pieces
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.units import written_actions
from maxent_rl.storage.archives import open_archive, write_archive
from maxent_rl.storage.files import to_json
from maxent_rl.storage.reading import parse_json

# Arrays of the file, and of a `Dataset`.
_ARRAYS = {
    "observations": "observation",
    "actions": "action",
    "rewards": "reward",
    "next_observations": "next_observation",
    "terminals": "terminated",
    "timeouts": "truncated",
}


def npz_pieces(path: Path, size: int | None) -> Iterator[Dataset]:
    """Goes over an archive once, in pieces of at most `size` transitions, or in one.

    Raises:
      DataError: it is something else, damaged, or its arrays do not fit together.
    """
    with open_archive(path, "a data set of transitions", REQUIRED) as archive:
        env = str(archive.array("env")) if "env" in archive.names else None
        about = parse_json(str(archive.array("about"))) if "about" in archive.names else {}
        columns = {name: archive.member(name) for name in (*REQUIRED, *OPTIONAL) if name in archive.names}
        yield from column_pieces(columns, path, size, env, dict(about))


def write_npz(data: Dataset, path: Path) -> None:
    """Writes an archive, which is there whole or not at all.

    Raises:
      OSError: full disk, missing permission.
    """
    arrays = {name: getattr(data, field) for name, field in _ARRAYS.items()} | {"actions": written_actions(data)}
    env = {} if data.env is None else {"env": np.array(data.env)}
    write_archive(path, {**arrays, **env, "about": np.array(to_json(data.about))})
