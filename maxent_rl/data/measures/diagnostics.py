"""Will values learned off-policy from this data, in this class, be right? Coverage, completeness and mis-alignment, measured.

Source: When is Realizability Sufficient for Off-Policy Reinforcement Learning? (arXiv 2211.05311). `bellman` has the numbers;
here they are estimated from a data set, a feature function and a target policy, with intervals by bootstrap over episodes.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.measures.bellman import (
    Moments,
    concentrability,
    feature_coverage,
    inherent_error,
    lstd,
    misalignment,
    predicted_error,
    stability,
)
from maxent_rl.data.measures.policy_features import (
    Features,
    Floats,
    Samples,
    TargetPolicy,
    Transitions,
    featurize,
    first_half,
    regress,
    rich,
)
from maxent_rl.errors import DataError, InvalidSettingError

RIDGE = 1e-8
BOOTSTRAP = 200

_MOST_BLOCKS = 500  # episodes beyond so many are resampled in blocks, whose moments are kept
_INTERVALS = ("beta", "amplification", "ibe_unit", "coverage_min_eig", "concentrability", "td_min_real_eig")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What is reported of a data set, a class of values and a target policy.

    Attributes:
      n: transitions that the numbers rest on.
      d: features.
      n_over_d: transitions for each feature.
      complexity: d log(1 + n).
      realizability_residual: root mean square of Q - TQ, of LSTD on half of the data, as a richer class sees it in the other
        half; reward units. What a richer class sees beyond `residual_noise` says that Q^pi is not in the class.
      residual_noise: what it would be about if there were nothing but noise to see.
      beta: mis-alignment, 0 (Bellman complete) to 1 (no guarantee).
      amplification: 1 / (1 - beta^2), of the statistical error.
      ibe_unit: inherent Bellman error of a theta at distance 1; changes with the scale of the features.
      ibe_relative: of a Q at distance 1 in L2(mu).
      coverage_min_eig: smallest eigenvalue of Sigma.
      condition: largest over smallest.
      effective_dimension: of Sigma.
      concentrability: C; where it comes from says `concentrability_from`.
      concentrability_from: "data of the policy", or "one step ahead", a surrogate that looks no further.
      td_min_real_eig: smallest real part of the eigenvalues of B; below 0 TD(0) diverges.
      td_min_singular: of the whitened B; near 0 means beta near 1.
      predicted_error: sqrt(C amplification d log(n) / n) / (1 - gamma) range; ranks, does not bound.
      theta: [d] LSTD on all of the data.
      how: what stood in for conditional means.
      intervals: 95 % intervals by bootstrap over episodes, by name; empty where there are too few episodes.
    """

    n: int
    d: int
    n_over_d: float
    complexity: float
    realizability_residual: float
    residual_noise: float
    beta: float
    amplification: float
    ibe_unit: float
    ibe_relative: float
    coverage_min_eig: float
    condition: float
    effective_dimension: float
    concentrability: float
    concentrability_from: str
    td_min_real_eig: float
    td_min_singular: float
    predicted_error: float
    theta: Floats
    how: str
    intervals: dict[str, tuple[float, float]]

    def table(self) -> str:
        """All numbers as text, a line each, with their intervals."""
        return "\n".join(f"{name:<24} {value}" for name, value in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("theta", "intervals"):
                continue
            text = f"{value:,}" if isinstance(value, int) else value if isinstance(value, str) else f"{value:.6g}"
            if field.name in self.intervals:
                low, high = self.intervals[field.name]
                text += f"  ({low:.4g} to {high:.4g})"
            yield field.name, text


def diagnose(
    data: Dataset,
    features: Features,
    policy: TargetPolicy,
    discount: float,
    *,
    transitions: Transitions = "random",
    target: Dataset | None = None,
    value_range: float | None = None,
    ridge: float = RIDGE,
    bootstrap: int = BOOTSTRAP,
    seed: int = 0,
) -> Diagnosis:
    """Diagnoses a data set for evaluating a policy with values phi(s, a)' theta.

    Args:
      data: logged by any policy.
      features: phi; `policy_features.TabularFeatures` for a table.
      policy: the policy to evaluate.
      discount: gamma, below 1.
      transitions: whether what follows a pair is random. Random: means of each pair over its other samples where at least half
        of the transitions have a pair that is there again, else cross-fitted regressions. `how` says which.
      target: data of the target policy, for its occupancy; without it, coverage is judged one step ahead.
      value_range: range of values, for `predicted_error`; by default the range of rewards over 1 - gamma.
      ridge: share of Sigma's mean eigenvalue that is added to it.
      bootstrap: resamples; 0 for no intervals.
      seed: decides resamples and sampled actions.

    Raises:
      DataError: fewer transitions than two, or features that are not finite numbers [n, d].
      InvalidSettingError: a discount outside [0, 1).
    """
    _check(data, discount)
    samples = featurize(data, features, policy, transitions=transitions, seed=seed)
    theirs = None if target is None else featurize(target, features, policy, transitions=transitions, seed=seed)
    wanted = None if theirs is None else _moments(_sums(theirs, discount ** theirs.step.astype(np.float64)), discount)
    blocks = _block_sums(samples)
    total = blocks.total(np.ones(len(blocks.weight)))
    numbers = _numbers(total, wanted, discount, ridge)
    residual, noise = _residual(samples, discount, ridge)
    n, d = samples.phi.shape
    if value_range is None:
        value_range = float(np.ptp(samples.reward)) / (1.0 - discount)
    return Diagnosis(
        n=n,
        d=d,
        n_over_d=n / d,
        complexity=d * math.log1p(n),
        realizability_residual=residual,
        residual_noise=noise,
        **numbers,
        concentrability_from="one step ahead" if wanted is None else "data of the policy",
        predicted_error=predicted_error(
            numbers["concentrability"], numbers["amplification"], d, n, discount, value_range
        ),
        theta=lstd(_moments(total, discount).with_ridge(ridge)),
        how=samples.how,
        intervals=_bootstrap(blocks, wanted, discount, ridge, bootstrap, np.random.default_rng(seed)),
    )


def _check(data: Dataset, discount: float) -> None:
    if not 0.0 <= discount < 1.0:
        raise InvalidSettingError(f"The discount must be at least 0 and less than 1, got {discount:g}.")
    if data.size < 2:
        raise DataError(f"Diagnostics need two transitions or more, got {data.size}.")


class _Sums(NamedTuple):
    """Sums of products over transitions, or of each block of episodes [blocks, ...], and the weights' own sum."""

    weight: Floats
    covariance: Floats
    cross: Floats
    conditional: Floats
    following: Floats
    reward: Floats

    def total(self, weights: Floats) -> _Sums:
        """Adds blocks up."""
        return _Sums(*(np.tensordot(weights, part, axes=1) for part in self))


def _sums(samples: Samples, weights: Floats) -> _Sums:
    phi = samples.phi * weights[:, None]
    return _Sums(
        np.asarray(weights.sum()),
        phi.T @ samples.phi,
        phi.T @ samples.phi2,
        (samples.left * weights[:, None]).T @ samples.right,
        (samples.phi2 * weights[:, None]).T @ samples.phi2,
        phi.T @ samples.reward,
    )


def _block_sums(samples: Samples) -> _Sums:
    names, first = np.unique(samples.episode, return_index=True)
    blocks = [block[0] for block in np.array_split(first, min(len(names), _MOST_BLOCKS))]
    bounds = [*blocks, len(samples.phi)]
    sums = [_sums(samples.take(slice(begin, end)), np.ones(end - begin)) for begin, end in itertools.pairwise(bounds)]
    return _Sums(*(np.stack(each) for each in zip(*sums, strict=True)))


def _moments(sums: _Sums, discount: float) -> Moments:
    conditional = (sums.conditional + sums.conditional.T) / (2.0 * sums.weight)
    weight = sums.weight
    return Moments(sums.covariance / weight, sums.cross / weight, conditional, sums.reward / weight, discount)


def _numbers(sums: _Sums, wanted: Moments | None, discount: float, ridge: float) -> dict[str, float]:
    moments = _moments(sums, discount).with_ridge(ridge)
    coverage, steady = feature_coverage(moments.covariance), stability(moments)
    aligned, inherent = misalignment(moments), inherent_error(moments)
    if wanted is None:
        ahead = concentrability(sums.following / sums.weight, moments.covariance)
    else:
        ahead = concentrability(wanted.full, moments.full)
    return {
        "beta": aligned.beta,
        "amplification": aligned.amplification,
        "ibe_unit": inherent.unit,
        "ibe_relative": inherent.relative,
        "coverage_min_eig": coverage.smallest,
        "condition": coverage.condition,
        "effective_dimension": coverage.effective_dimension,
        "concentrability": ahead,
        "td_min_real_eig": steady.smallest_real,
        "td_min_singular": steady.smallest_singular,
    }


def _bootstrap(
    blocks: _Sums, wanted: Moments | None, discount: float, ridge: float, resamples: int, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Percentile intervals; a data set of the target policy is held as it is."""
    count = len(blocks.weight)
    if count < 2 or not resamples:
        return {}
    found = []
    for _ in range(resamples):
        weights = np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)
        found.append(_numbers(blocks.total(weights), wanted, discount, ridge))
    # "lower" and "higher" take values as they are: between infinite ones there is nothing to interpolate.
    return {
        name: (
            float(np.quantile([each[name] for each in found], 0.025, method="lower")),
            float(np.quantile([each[name] for each in found], 0.975, method="higher")),
        )
        for name in _INTERVALS
    }


def _residual(samples: Samples, discount: float, ridge: float) -> tuple[float, float]:
    """Root mean square of Q - TQ that a richer class sees, and what noise alone would give."""
    half = first_half(samples.episode)
    if half.all() or not half.any():
        return math.nan, math.nan
    fitted, held = samples.take(half), samples.take(~half)
    theta = lstd(_moments(_sums(fitted, np.ones(len(fitted.phi))), discount).with_ridge(ridge))
    error = (held.phi - discount * held.phi2) @ theta - held.reward
    wide = rich(held.phi)
    seen = wide @ regress(wide, error)
    columns = int(np.linalg.matrix_rank(wide.T @ wide, hermitian=True))
    left = max(len(error) - columns, 1)
    noise = math.sqrt(columns / len(error) * float(((error - seen) ** 2).sum()) / left)
    return float(np.sqrt(np.mean(seen**2))), noise
