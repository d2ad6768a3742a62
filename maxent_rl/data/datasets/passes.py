"""Data sets in files as measures need them: to be passed over several times."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.files import open_chunks
from maxent_rl.data.measures.coverage import Source

_CHUNK = 1 << 16
_MOST_BYTES = 1 << 28


def open_source(path: str | Path, most_bytes: int = _MOST_BYTES) -> Source:
    """Opens a data set: its chunks in memory where they are small, and else read anew for every pass.

    Args:
      path: as for `read_dataset`.
      most_bytes: the most that is kept in memory, without next observations, which no measure looks at.

    Raises:
      DataError, MissingDependencyError: as `read_dataset` does.
    """
    kept: list[Dataset] = []
    size = 0
    for chunk in open_chunks(path, _CHUNK):
        slim = dataclasses.replace(chunk, next_observation=chunk.observation)
        size += slim.observation.nbytes + slim.action.nbytes + slim.reward.nbytes
        if size > most_bytes:
            return lambda: open_chunks(path, _CHUNK)
        kept.append(slim)
    return kept
