"""Which slow tests CI runs at a commit: those of one file in eight, so that over many commits all come by."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

TURNS = 8


def in_turn(commit: str, files: Sequence[Path]) -> set[Path]:
    """One in `TURNS` of the files, the same for the same commit."""
    mixed = sorted(files, key=lambda path: zlib.crc32(path.name.encode()))
    return set(mixed[zlib.crc32(commit.encode()) % TURNS :: TURNS])
