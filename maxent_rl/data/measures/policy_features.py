"""Features of logged pairs and of what a target policy would do next, and the conditional means that diagnostics need.

The moment M = E[m m'], m = E[phi2 given s, a], is one of conditional means: a single next state in place of m adds the
variance of phi2, which reads as mis-alignment. What stands in for m is therefore said in every result (`how`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.measures.coverage import exact_keys
from maxent_rl.errors import DataError

Floats: TypeAlias = NDArray[np.float64]
Features: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
"""Takes observations [n, observation] and actions [n, action] or [n], and gives features [n, d]."""

Transitions: TypeAlias = Literal["random", "deterministic"]

_MOST_PRODUCTS = 25  # features up to which all products are made: 350 columns
_RIDGE = 1e-8


class TargetPolicy(Protocol):
    """A policy to evaluate."""

    def expected(self, features: Features, observation: NDArray[Any], rng: np.random.Generator) -> Floats:
        """[n, d] the features of its actions at observations [n, observation], in expectation or an estimate of it."""


@dataclasses.dataclass(frozen=True)
class ActionProbabilities:
    """A policy of discrete actions by its probabilities; expectations are exact sums.

    Attributes:
      probabilities: takes observations [n, observation], gives [n, actions].
    """

    probabilities: Callable[[NDArray[Any]], NDArray[Any]]

    def expected(self, features: Features, observation: NDArray[Any], rng: np.random.Generator) -> Floats:
        """As `TargetPolicy` says."""
        shares = np.asarray(self.probabilities(observation), np.float64)
        parts = [
            shares[:, action, None] * features(observation, np.full(len(observation), action, np.int32))
            for action in range(shares.shape[1])
        ]
        return np.asarray(sum(parts), np.float64)


@dataclasses.dataclass(frozen=True)
class SampledActions:
    """A policy by samples of its actions; expectations are means.

    Attributes:
      sample: takes observations [n, observation] and a generator, gives actions [n, action] or [n].
      count: actions drawn in each state.
    """

    sample: Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]
    count: int = 16

    def expected(self, features: Features, observation: NDArray[Any], rng: np.random.Generator) -> Floats:
        """As `TargetPolicy` says."""
        draws = [
            np.asarray(features(observation, self.sample(observation, rng)), np.float64) for _ in range(self.count)
        ]
        return np.asarray(np.mean(draws, axis=0))


class TabularFeatures:
    """One-hot features of the state-action pairs of a data set: the tabular class. Pairs it lacks have no feature.

    Attributes:
      size: distinct pairs, d.
    """

    def __init__(self, data: Dataset) -> None:
        self._keys = np.unique(exact_keys(data))
        self.size = len(self._keys)

    def __call__(self, observation: NDArray[Any], action: NDArray[Any]) -> Floats:
        """[n, d] the features of pairs."""
        keys = exact_keys(_pairs(observation, action))
        place = np.minimum(np.searchsorted(self._keys, keys), self.size - 1)
        found = np.zeros((len(keys), self.size))
        found[np.arange(len(keys)), place] = self._keys[place] == keys
        return found

    def shares(self, data: Dataset, discount: float = 1.0) -> Floats:
        """[d] share of each pair in a data set, later steps weighted by the discount: mu, or an estimate of d_pi.

        Pairs without a feature are left out, so that the sum is less than 1 by their share.
        """
        start, length, _ = data.episodes
        weights = discount ** (np.arange(data.size) - np.repeat(start, length))
        keys = exact_keys(data)
        place = np.minimum(np.searchsorted(self._keys, keys), self.size - 1)
        weights = weights / weights.sum()
        found = np.bincount(place, weights * (self._keys[place] == keys), minlength=self.size)
        return found.astype(np.float64)


def _pairs(observation: NDArray[Any], action: NDArray[Any]) -> Dataset:
    none = np.zeros(len(observation), bool)
    return Dataset(observation, action, none.astype(np.float32), observation, none, none)


class Samples(NamedTuple):
    """Features of the transitions of a data set; the mean of left' right, made symmetric, estimates M.

    Attributes:
      phi: [n, d] of the logged pairs.
      phi2: [n, d] of what follows under the target policy; 0 after a terminal state, not after a time limit.
      left: [n, d] one stand-in for m.
      right: [n, d] another, whose error is independent of it where that can be had.
      reward: [n].
      episode: [n] which episode each belongs to.
      step: [n] its place there.
      how: what stands in for m.
    """

    phi: Floats
    phi2: Floats
    left: Floats
    right: Floats
    reward: Floats
    episode: NDArray[np.int64]
    step: NDArray[np.int64]
    how: str

    def take(self, part: slice | NDArray[np.bool_]) -> Samples:
        """Some of the transitions."""
        return Samples(
            self.phi[part], self.phi2[part], self.left[part], self.right[part],
            self.reward[part], self.episode[part], self.step[part], self.how,
        )  # fmt: skip


def featurize(
    data: Dataset,
    features: Features,
    policy: TargetPolicy,
    *,
    transitions: Transitions = "random",
    seed: int = 0,
) -> Samples:
    """Computes the features of a data set, in float64.

    Args:
      data: the data set.
      features: phi.
      policy: the target policy.
      transitions: whether a pair always leads to the same next state; then single next states are exact.
      seed: decides sampled actions.

    Raises:
      DataError: features of a wrong shape, or NaN among them.
    """
    phi = _checked(features(data.observation, data.action), data.size)
    goes_on = (~data.terminated).astype(np.float64)[:, None]
    rng = np.random.default_rng(seed)
    # Two estimates, whose errors are independent where actions are sampled.
    first, second = (
        _checked(policy.expected(features, data.next_observation, rng), data.size) * goes_on for _ in range(2)
    )
    start, length, _ = data.episodes
    episode = np.repeat(np.arange(len(start)), length)
    step = np.arange(data.size) - np.repeat(start, length)
    samples = Samples(phi, (first + second) / 2, first, second, data.reward.astype(np.float64), episode, step, "")
    if transitions == "deterministic":
        return samples._replace(how="single next states, transitions being deterministic")
    return _conditional(samples, exact_keys(data))


def _checked(found: NDArray[Any], size: int) -> Floats:
    array = np.asarray(found, np.float64)
    if array.ndim != 2 or len(array) != size or not array.shape[1]:
        raise DataError(f"Features must be of shape [{size}, d] for {size} pairs, got {list(array.shape)}.")
    if not np.isfinite(array).all():
        raise DataError("Features must be finite numbers, got NaN or infinity.")
    return array


def _conditional(samples: Samples, keys: NDArray[np.uint64]) -> Samples:
    """Fills in what stands in for m where what follows a pair is random."""
    _, pair, counts = np.unique(keys, return_inverse=True, return_counts=True)
    often = counts[pair] >= 2
    if often.mean() < 0.5:
        mean = _cross_fitted(samples)
        return samples._replace(left=mean, right=mean, how="regressions on products of features, cross-fitted")
    sums = np.zeros((len(counts), samples.phi2.shape[1]))
    np.add.at(sums, pair, samples.phi2)
    others = (sums[pair] - samples.phi2)[often] / (counts[pair] - 1)[often, None]
    kept = samples.take(often)
    how = f"means of each pair over its other samples, on the {often.mean():.1%} of the transitions whose pair is there again"
    return kept._replace(left=kept.phi2, right=others, how=how)


def _cross_fitted(samples: Samples) -> Floats:
    """[n, d] phi2 regressed on a rich class; each half of the episodes predicted by the fit on the other one."""
    wide = rich(samples.phi)
    half = first_half(samples.episode)
    mean = np.empty_like(samples.phi2)
    for fitted, predicted in ((half, ~half), (~half, half)):
        mean[predicted] = wide[predicted] @ regress(wide[fitted], samples.phi2[fitted])
    return mean


def rich(phi: Floats) -> Floats:
    """A class that holds more than phi [n, d]: a constant, phi, and its products (of many features, squares alone)."""
    size = phi.shape[1]
    if size <= _MOST_PRODUCTS:
        first, second = np.triu_indices(size)
        products = phi[:, first] * phi[:, second]
    else:
        products = phi**2
    return np.concatenate([np.ones((len(phi), 1)), phi, products], axis=1)


def regress(inputs: Floats, targets: Floats) -> Floats:
    """Least-squares coefficients of targets [n] or [n, d] on inputs [n, k], with a ridge that only singular ones feel."""
    gram = inputs.T @ inputs
    ridge = _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.asarray(np.linalg.solve(gram + ridge, inputs.T @ targets))


def first_half(episode: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[n] which transitions are of the first half of the episodes; of a single episode, the first half of its steps."""
    count = len(np.unique(episode))
    if count < 2:
        return np.arange(len(episode)) < len(episode) // 2
    names = np.unique(episode)
    return np.asarray(episode < names[(count + 1) // 2])
