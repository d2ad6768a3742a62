"""Data sets in files: what is read, what is checked, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maxent_rl.data.dataset import Dataset


def read_dataset(path: str | Path) -> Dataset:
    """Reads a data set.

    Raises:
      DataError: it is missing, damaged, or holds impossible numbers.
    """
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    env = str(arrays.pop("env")) if "env" in arrays else None
    return Dataset(**arrays, env=env)


def write_npz(data: Dataset, path: Path) -> None:
    """Writes a plain npz archive, for tests until the formats are there."""
    names = ("observation", "action", "reward", "next_observation", "terminated", "truncated")
    env = {} if data.env is None else {"env": np.array(data.env)}
    np.savez(path, **{name: getattr(data, name) for name in names}, **env)  # type: ignore[arg-type]
