"""How many different state-action pairs a data set holds: binning, hashing, counting, and what of it another one holds.

Source: A Dataset Perspective on Offline Reinforcement Learning (arXiv 2111.04714), whose code bins every coordinate by 100
equally spaced edges and counts distinct rows of bins. All passes go over chunks: no measure needs the whole data in memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.passes import Source, chunks_of
from maxent_rl.data.measures.sketch import STANDARD_ERROR, Sketch
from maxent_rl.errors import DataError, InvalidSettingError

EDGES = 100
EXACT_LIMIT = 10_000_000
"""Transitions up to which the keys of all pairs are kept and counted exactly (8 bytes each)."""

Floats: TypeAlias = NDArray[np.float64]
Keys: TypeAlias = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Between which values coordinates are binned: observation entries, then those of continuous actions.

    Coverages can be compared only where the limits are the same, so they come from one data set, the reference.

    Attributes:
      low: [entries] smallest values.
      high: [entries] largest values.
      discrete: whether actions are choices, which are not binned but taken as they are.
    """

    low: Floats
    high: Floats
    discrete: bool

    @classmethod
    def of(cls, source: Source) -> Limits:
        """The range of each coordinate in a data set.

        Raises:
          DataError: it is empty, or holds NaN or infinity.
        """
        low, high, discrete = None, None, False
        for chunk in chunks_of(source):
            discrete = chunk.is_discrete
            parts = [chunk.observation] if discrete else [chunk.observation, chunk.action]
            least = np.concatenate([part.min(axis=0) for part in parts]).astype(np.float64)
            most = np.concatenate([part.max(axis=0) for part in parts]).astype(np.float64)
            low = least if low is None else np.minimum(low, least)
            high = most if high is None else np.maximum(high, most)
        if low is None or high is None:
            raise DataError("The data set has no transitions to measure.")
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise DataError(
                "The data set holds NaN or infinity among its observations or actions; expected finite numbers."
            )
        return cls(low, high, discrete)


def bin_indices(values: NDArray[Any], low: float, high: float, edges: int = EDGES) -> NDArray[np.uint16]:
    """Which bin each value of a coordinate falls in: `numpy.digitize(values, numpy.linspace(low, high, edges))`.

    The index is the number of edges that are not above the value: 1 to `edges` within the limits, where `high` alone is in
    the last one; 0 below them, and `edges` above. A constant coordinate (low = high) falls in one bin.

    Args:
      values: [n].
      low: the first edge.
      high: the last one.
      edges: how many, at least 2.

    Returns:
      [n] the indices.
    """
    edge = np.linspace(low, high, edges)
    exact = values.astype(np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        scale = (edges - 1) / np.float64(high - low)
    if not np.isfinite(scale):
        return np.searchsorted(edge, exact, side="right").astype(np.uint16)
    # A guess, and its correction by one: three times as fast as a search, and as exact.
    guess = np.clip(np.floor((exact - low) * scale), -1, edges - 1).astype(np.int64) + 1
    bounded = np.concatenate([[-np.inf], edge, [np.inf]])
    guess -= exact < bounded[guess]
    guess += exact >= bounded[guess + 1]
    return guess.astype(np.uint16)


@dataclasses.dataclass(frozen=True)
class Binning:
    """What makes two state-action pairs the same one.

    Attributes:
      limits: shared by all data sets that are compared.
      edges: equally spaced edges of each coordinate.
    """

    limits: Limits
    edges: int = EDGES

    def __post_init__(self) -> None:
        if not 2 <= self.edges <= 2**15:
            raise InvalidSettingError(f"--edges must be at least 2 and at most {2**15}, got {self.edges}.")

    def keys(self, chunk: Dataset) -> Keys:
        """Hashes [n] of the bins of each pair, to 64 bits.

        Every bin of every coordinate has a pseudo-random number of 64 bits; the key is their exclusive or, mixed once more
        (Zobrist, or tabulation, hashing). Two different pairs share a key with probability 2^-64.

        Raises:
          DataError: the chunk's entries are not those of the limits.
        """
        self._check(chunk)
        found = np.zeros(chunk.size, np.uint64)
        for entry, values in enumerate(_columns(chunk)):
            table = _random(entry, np.arange(self.edges + 1))
            found ^= table[bin_indices(values, self.limits.low[entry], self.limits.high[entry], self.edges)]
        if self.limits.discrete:
            found ^= _random(len(self.limits.low), chunk.action)
        return _mix(found)

    def action_bins(self, chunk: Dataset) -> NDArray[np.integer]:
        """[n, action] bins of continuous actions, or [n, 1] the discrete ones as they are."""
        if self.limits.discrete:
            return chunk.action[:, None].astype(np.int64)
        first = len(self.limits.low) - chunk.action.shape[1]
        limits = zip(self.limits.low[first:], self.limits.high[first:], strict=True)
        bins = [bin_indices(chunk.action[:, i], low, high, self.edges) for i, (low, high) in enumerate(limits)]
        return np.stack(bins, axis=1)

    def _check(self, chunk: Dataset) -> None:
        entries = chunk.observation.shape[1] + (0 if chunk.is_discrete else chunk.action.shape[1])
        if chunk.is_discrete != self.limits.discrete or entries != len(self.limits.low):
            raise DataError(
                f"The data sets do not fit together: one has {_words(len(self.limits.low), self.limits.discrete)}, the "
                f"other {_words(entries, chunk.is_discrete)}."
            )


def _words(entries: int, discrete: bool) -> str:
    return f"{entries} entries of observations" + (" and discrete actions" if discrete else " and actions together")


def _columns(chunk: Dataset) -> Iterator[NDArray[Any]]:
    yield from chunk.observation.T
    if not chunk.is_discrete:
        yield from chunk.action.T


def _mix(values: Keys) -> Keys:
    """SplitMix64's finaliser: a bijection after which every bit depends on every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _random(coordinate: int, values: NDArray[Any]) -> Keys:
    """The pseudo-random numbers of the values of a coordinate; always the same, so that sketches can be merged."""
    begin = _mix(np.array([coordinate + 1], np.uint64) * _GOLDEN)
    return _mix(begin + values.astype(np.uint64) * _GOLDEN)


def exact_keys(chunk: Dataset) -> Keys:
    """Hashes [n] of each state-action pair as it is, unbinned: equal for pairs that are equal in every bit."""
    found = np.zeros(chunk.size, np.uint64)
    for entry, values in enumerate((*_columns(chunk), *([chunk.action] if chunk.is_discrete else []))):
        bits = values if values.dtype.kind in "iu" else (values.astype(np.float32) + np.float32(0)).view(np.uint32)
        found ^= _random(entry, bits)  # adding zero makes -0 and 0 one
    return _mix(found)


class Count(NamedTuple):
    """A number of distinct pairs.

    Attributes:
      value: the number, or its estimate.
      relative_error: standard error relative to it; 0 where it was counted.
    """

    value: float
    relative_error: float


class PairCounter:
    """Counts distinct keys: all are kept up to a limit; beyond it, a sketch of them.

    Kept keys count exactly but for collisions, of whose probability `collision_probability` is a bound.
    """

    def __init__(self, exact_limit: int = EXACT_LIMIT) -> None:
        self.size = 0
        self.exact_limit = exact_limit
        self._kept: list[Keys] = []
        self._sorted = False
        self.sketch: Sketch | None = None

    @property
    def exact(self) -> bool:
        """Whether all keys are there."""
        return self.sketch is None

    def add(self, keys: Keys) -> None:
        """Takes in the keys [n] of further transitions."""
        self.size += len(keys)
        self._kept.append(keys)
        self._sorted = False
        if self.size > self.exact_limit:
            self.sketch = self.sketch or Sketch()
            for part in self._kept:
                self.sketch.add(part)
            self._kept = []

    @property
    def keys(self) -> Keys:
        """[size] all keys, ascending; only of an exact count."""
        if not self._sorted:
            ordered = np.concatenate([np.zeros(0, np.uint64), *self._kept])
            ordered.sort()
            self._kept, self._sorted = [ordered], True
        return self._kept[0]

    def frequencies(self) -> tuple[Keys, NDArray[np.int64]]:
        """The distinct keys, ascending, and how often each was there; only of an exact count."""
        keys = self.keys
        first = np.flatnonzero(np.concatenate([[len(keys) > 0], keys[1:] != keys[:-1]])[: len(keys)])
        return keys[first], np.diff(np.append(first, len(keys)))

    def distinct(self) -> Count:
        """u(D), the number of distinct pairs."""
        if self.sketch is not None:
            return Count(self.sketch.count(), STANDARD_ERROR)
        return Count(float(len(self.frequencies()[0])), 0.0)

    def in_sketch(self) -> Sketch:
        """A sketch of all keys, also of an exact count."""
        if self.sketch is not None:
            return self.sketch
        sketch = Sketch()
        sketch.add(self.keys)
        return sketch


def count_pairs(source: Source, binning: Binning, exact_limit: int = EXACT_LIMIT) -> PairCounter:
    """Counts the distinct state-action pairs of a data set."""
    counter = PairCounter(exact_limit)
    for chunk in chunks_of(source):
        counter.add(binning.keys(chunk))
    return counter


def collision_probability(pairs: float) -> float:
    """A bound on the probability that any two of so many different pairs share a key of 64 bits: 3e-6 for 10^7."""
    return min(1.0, pairs * (pairs - 1) / 2 * 2.0**-64)


def subsamples(
    keys: Iterable[Keys], total: int, size: int, draws: int, rng: np.random.Generator, exact_limit: int = EXACT_LIMIT
) -> list[PairCounter]:
    """Counts pairs of random subsets of a data set, drawn without replacement in one pass.

    Args:
      keys: of all its transitions, in parts.
      total: transitions there are.
      size: transitions of each subset.
      draws: how many subsets.
      rng: decides them.
      exact_limit: as of a `PairCounter`.

    Returns:
      A counter for each.
    """
    counters, open_places = [PairCounter(exact_limit) for _ in range(draws)], [size] * draws
    for part in keys:
        for index, counter in enumerate(counters):
            taken = int(rng.hypergeometric(open_places[index], total - open_places[index], len(part)))
            counter.add(rng.choice(part, taken, replace=False, shuffle=False))
            open_places[index] -= taken
        total -= len(part)
    return counters


class Overlap(NamedTuple):
    """What two data sets have in common.

    Attributes:
      of_reference: share of the reference's distinct pairs that the data set has.
      of_data: share of the data set's distinct pairs that the reference has.
      error: standard error of `of_reference`, absolute; 0 where both were counted.
    """

    of_reference: float
    of_data: float
    error: float


def overlap(data: PairCounter, reference: PairCounter) -> Overlap:
    """Counts common pairs; from sketches, by the union: |A and B| = |A| + |B| - |A or B|, with the errors of all three."""
    first, second = data.distinct().value, reference.distinct().value
    if data.exact and reference.exact:
        own, others = data.frequencies()[0], reference.frequencies()[0]
        common, error = float(len(np.intersect1d(own, others, assume_unique=True))), 0.0
    else:
        union = data.in_sketch().merged(reference.in_sketch()).count()
        common = min(max(first + second - union, 0.0), first, second)
        error = STANDARD_ERROR * float(np.sqrt(first**2 + second**2 + union**2)) / second
    return Overlap(common / second, common / first, error)


def plugin_entropy(frequencies: NDArray[np.integer]) -> float:
    """Entropy of the shares of counts [pairs], in nats; its exponential is at most their number (u), the paper's bound."""
    shares = frequencies[frequencies > 0] / frequencies.sum()
    return float(-(shares * np.log(shares)).sum())
