"""Fixed data on the device: what loops need of it, whatever it holds."""

from __future__ import annotations

import zlib
from typing import Protocol

import jax
import numpy as np

from maxent_rl.types import Array, PyTree


class FixedData(Protocol):
    """A data set on the device: a pytree, the same for all seeds."""

    @property
    def size(self) -> int:
        """Entries that batches are drawn from."""
        ...

    def sample(self, key: Array, batch_size: int) -> PyTree:
        """Draws a batch, with replacement, in the form that the agent's `update` takes."""
        ...


def digest(data: PyTree) -> np.uint32:
    """A number that tells data sets apart: a resumed run must go on with the same one."""
    found = 0
    for leaf in jax.tree.leaves(data):
        found = zlib.crc32(np.asarray(leaf).tobytes(), found)
    return np.uint32(found)
