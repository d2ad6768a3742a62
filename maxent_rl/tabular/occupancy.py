"""How often a policy visits each state-action pair of a finite process, and how well data covers that; all in float64.

Source: When is Realizability Sufficient for Off-Policy Reinforcement Learning? (arXiv 2211.05311), whose concentrability
this is where pairs can be counted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class TabularCoverage(NamedTuple):
    """How the data covers what the target policy does, pair by pair.

    Attributes:
      largest_ratio: sup d_pi / mu; infinite where a pair is missing.
      chi_square: E_mu[(d_pi / mu)^2]; infinite where a pair is missing.
      unseen: share of d_pi on pairs that the data lacks.
    """

    largest_ratio: float
    chi_square: float
    unseen: float


def tabular_coverage(target: Floats, data: Floats) -> TabularCoverage:
    """Compares shares [pairs] of the target policy's occupancy and of the data."""
    seen = data > 0
    unseen = float(target[~seen].sum())
    if unseen > 0:
        return TabularCoverage(math.inf, math.inf, unseen)
    ratio = target[seen] / data[seen]
    return TabularCoverage(float(ratio.max()), float((data[seen] * ratio**2).sum()), 0.0)


def occupancy(transition: Floats, start: Floats, discount: float) -> Floats:
    """[pairs] d_pi = (1 - gamma) sum_t gamma^t P(pair at t), which sums to 1 where nothing ends.

    Args:
      transition: [pairs, pairs] P^pi.
      start: [pairs] of the first pair.
      discount: gamma.
    """
    visits = np.linalg.solve(np.eye(len(start)) - discount * transition.T, start)
    return np.asarray((1.0 - discount) * visits, np.float64)
