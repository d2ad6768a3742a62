"""Counting distinct 64-bit keys without keeping them: a HyperLogLog of the package `datasketch`, filled many keys at a time.

Source: HyperLogLog (Flajolet et al., 2007) with the bias correction of HyperLogLog++ (Heule et al., 2013).
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxent_rl.errors import MissingDependencyError

PRECISION = 14
STANDARD_ERROR = 1.04 / math.sqrt(2**PRECISION)
"""Of an estimate, relative to it: 0.81 %."""


class Sketch:
    """A HyperLogLog of 2^14 registers.

    The estimate and the merging are datasketch's. Its `update` takes one key at a time, minutes for 10^7 of them; what it
    does to the registers is done here for a whole array.
    """

    def __init__(self) -> None:
        self._log: Any = _datasketch().HyperLogLogPlusPlus(p=PRECISION)

    def add(self, keys: NDArray[np.uint64]) -> None:
        """Takes in keys [n] that are hashes already: uniform in all 64 bits."""
        register = (keys & np.uint64(self._log.m - 1)).astype(np.int64)
        rest = (keys >> np.uint64(PRECISION)).astype(np.float64)  # 50 bits: exact
        rank = (self._log.max_rank + 1 - np.frexp(rest)[1]).astype(np.int8)
        np.maximum.at(self._log.reg, register, rank)

    def count(self) -> float:
        """The estimated number of distinct keys."""
        return float(self._log.count())

    def merged(self, other: Sketch) -> Sketch:
        """The sketch of the union of both."""
        union = Sketch()
        union._log = self._log.copy()
        union._log.merge(other._log)
        return union

    @property
    def registers(self) -> NDArray[np.int8]:
        """[2^14] the highest rank that each has seen."""
        return np.asarray(self._log.digest(), np.int8)


def _datasketch() -> Any:
    try:
        return importlib.import_module("datasketch")
    except ImportError as error:
        raise MissingDependencyError(
            "Counting the pairs of so large a data set needs the package datasketch: pip install 'maxent_rl[offline]'."
        ) from error
