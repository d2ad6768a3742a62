"""Data sets as measures need them: a chunk at a time, to be passed over several times."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.files import open_chunks
from maxent_rl.errors import DataError

Source: TypeAlias = Dataset | Iterable[Dataset] | Callable[[], Iterable[Dataset]]
"""A data set, or its chunks in order: a list of them, or a function that gives them anew for every pass."""

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


def chunks_of(source: Source) -> Iterator[Dataset]:
    """The transitions of a source in order, a chunk at a time; an episode may go on from one chunk to the next.

    Raises:
      DataError: the source is an iterator, which can be passed only once.
    """
    if isinstance(source, Dataset):
        for start in range(0, source.size, _CHUNK):
            yield source.part(start, start + _CHUNK)
        return
    chunks = source() if callable(source) else source
    if chunks is source and isinstance(chunks, Iterator):
        raise DataError(
            "Measures pass over the data more than once: expected a data set, a list of chunks, or a function that opens "
            f"them, got {type(chunks).__name__}."
        )
    for chunk in chunks:
        yield from chunks_of(chunk)
