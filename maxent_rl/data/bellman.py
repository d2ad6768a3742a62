"""How far linear values are from holding their own Bellman images: numbers of moments, exact or estimated, in float64.

A class of values F = {phi' theta} is *realizable* where it holds Q^pi, and *complete* where it holds the Bellman image of each
of its members. With the first alone, the error of temporal differences is that of the data times an amplification, which
says how far the class is from the second.

Source: When is Realizability Sufficient for Off-Policy Reinforcement Learning? (arXiv 2211.05311), whose three factors
(complexity, concentrability, mis-alignment) stand here for linear and tabular classes in L2(mu).
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CUTOFF = 1e-10
"""Eigenvalues below this share of the largest one count as zero: directions in which there is no data."""


@dataclasses.dataclass(frozen=True)
class Moments:
    """Second moments of the features phi of (s, a), and of phi2, the target policy's expected features of what follows.

    Attributes:
      covariance: [d, d] Sigma = E[phi phi'].
      cross: [d, d] Cr = E[phi phi2'].
      conditional: [d, d] M = E[m m'], m = E[phi2 given s, a]; not E[phi2 phi2'], which is larger where what follows is
        random.
      reward: [d] E[phi r].
      discount: gamma.
    """

    covariance: Floats
    cross: Floats
    conditional: Floats
    reward: Floats
    discount: float

    @property
    def system(self) -> Floats:
        """B = Sigma - gamma Cr, the matrix of temporal differences."""
        return self.covariance - self.discount * self.cross

    @property
    def full(self) -> Floats:
        """A_full: delta' A_full delta is the squared norm of delta'(phi - gamma m), the change of Q - TQ."""
        cross = self.discount * (self.cross + self.cross.T)
        return self.covariance - cross + self.discount**2 * self.conditional

    @property
    def projected(self) -> Floats:
        """A_proj = B' Sigma^-1 B: the same after projection on the class."""
        whitened = whitening(self.covariance).T @ self.system
        return whitened.T @ whitened

    @property
    def gap(self) -> Floats:
        """M - Cr' Sigma^-1 Cr: gamma^2 delta' gap delta is the squared part of TQ that the class misses."""
        whitened = whitening(self.covariance).T @ self.cross
        return self.conditional - whitened.T @ whitened

    def with_ridge(self, ridge: float) -> Moments:
        """Adds ridge * trace / d to Sigma, and so to A_full and B.

        It is as if every direction had been seen once more, without reward and at an end. Where beta is 0, a ridge of 1e-8
        shows as one of about 1e-4.
        """
        size = len(self.covariance)
        return dataclasses.replace(
            self, covariance=self.covariance + ridge * np.trace(self.covariance) / size * np.eye(size)
        )


def exact_moments(features: Floats, transition: Floats, weights: Floats, reward: Floats, discount: float) -> Moments:
    """Moments of a known decision process.

    Args:
      features: [pairs, d] phi of every state-action pair.
      transition: [pairs, pairs] P^pi, from each pair to the next one under the target policy; rows that end sum to less.
      weights: [pairs] mu, the share of each pair in the data.
      reward: [pairs] expected rewards.
      discount: gamma.
    """
    following = transition @ features
    weighted = features * weights[:, None]
    return Moments(
        weighted.T @ features, weighted.T @ following, (following * weights[:, None]).T @ following,
        weighted.T @ reward, discount,
    )  # fmt: skip


def lstd(moments: Moments) -> Floats:
    """[d] theta = B^-1 b, to which the minimax estimator and converged TD lead; the shortest one where B is singular."""
    return np.asarray(np.linalg.lstsq(moments.system, moments.reward, rcond=None)[0], np.float64)


def minimax_objective(theta: Floats, moments: Moments) -> float:
    """The squared loss of Q against its own target, less the least that any member of the class has against it.

    Args:
      theta: [d] of Q.
      moments: of the data.

    Returns:
      For a linear class the squared projected Bellman error, 0 at `lstd`.
    """
    error = whitening(moments.covariance).T @ (moments.system @ theta - moments.reward)
    return float(error @ error)


class Misalignment(NamedTuple):
    """How much of a Bellman error can hide from the class.

    Attributes:
      beta: the largest sine of the angle between Q - TQ and its projection on the class, in [0, 1].
      amplification: 1 / (1 - beta^2), the factor on the statistical error.
      direction: [d] change of theta whose Bellman error hides best.
    """

    beta: float
    amplification: float
    direction: Floats


def misalignment(moments: Moments) -> Misalignment:
    """From the smallest generalised eigenvalue of (A_proj, A_full), which is 1 - beta^2 where Q^pi is in the class.

    Where it is not, Q - TQ is affine in theta and the numbers are those of its linear part.
    """
    values, vectors = generalised_eigen(moments.projected, moments.full)
    smallest = float(np.clip(values[0], 0.0, 1.0))
    # An eigenvalue of 0 is computed as one of 1e-17 or so, or less than nothing.
    amplification = 1.0 / smallest if smallest > CUTOFF else math.inf
    return Misalignment(math.sqrt(1.0 - smallest), amplification, vectors[:, 0])


class InherentError(NamedTuple):
    """How far the Bellman image of a member can lie from the class.

    Attributes:
      unit: for a theta at distance 1 from that of Q^pi.
      relative: for a Q at distance 1 from Q^pi in L2(mu); does not depend on the scale of the features.
    """

    unit: float
    relative: float


def inherent_error(moments: Moments) -> InherentError:
    """The inherent Bellman error I(Q), the gap to Bellman completeness (realizable case)."""
    unit = float(np.linalg.eigvalsh(_symmetric(moments.gap))[-1])
    relative = float(generalised_eigen(moments.gap, moments.covariance)[0][-1])
    return InherentError(*(moments.discount * math.sqrt(max(value, 0.0)) for value in (unit, relative)))


class Stability(NamedTuple):
    """Whether temporal differences converge.

    Attributes:
      smallest_real: smallest real part of an eigenvalue of B; below 0 TD(0) diverges, although LSTD may exist.
      smallest_singular: smallest singular value of Sigma^-1/2 B Sigma^-1/2; near 0 means a beta near 1.
    """

    smallest_real: float
    smallest_singular: float


def stability(moments: Moments) -> Stability:
    """Stability of TD(0) on these moments."""
    white = whitening(moments.covariance)
    singular = np.linalg.svd(white.T @ moments.system @ white, compute_uv=False)
    return Stability(float(np.linalg.eigvals(moments.system).real.min()), float(singular.min()))


class FeatureCoverage(NamedTuple):
    """Which directions of the features the data has.

    Attributes:
      smallest: eigenvalue of Sigma.
      condition: largest over smallest one; infinite where a direction is missing.
      effective_dimension: trace^2 / trace of the square: d where all directions have as much, 1 where one has all.
    """

    smallest: float
    condition: float
    effective_dimension: float


def feature_coverage(covariance: Floats) -> FeatureCoverage:
    """Describes Sigma [d, d]."""
    values = np.maximum(np.linalg.eigvalsh(_symmetric(covariance)), 0.0)
    # The eigenvalue of a missing direction is not 0, but the rounding of the largest one.
    missing = values[0] <= len(values) * np.finfo(np.float64).eps * values[-1]
    condition = math.inf if missing else float(values[-1] / values[0])
    total = float((values**2).sum())
    return FeatureCoverage(float(values[0]), condition, float(values.sum()) ** 2 / total if total else 0.0)


def concentrability(target: Floats, data: Floats) -> float:
    """The smallest C with target <= C data, as quadratic forms; infinite where the target has a direction the data lacks.

    Args:
      target: [d, d] A_full under the occupancy of the target policy; or, as a surrogate of one step, E[phi2 phi2'].
      data: [d, d] A_full under the data; for the surrogate Sigma.
    """
    values, vectors = np.linalg.eigh(_symmetric(data))
    missing = vectors[:, values <= CUTOFF * max(values[-1], 0.0)]
    if missing.size and np.trace(missing.T @ target @ missing) > CUTOFF * np.trace(target):
        return math.inf
    return float(generalised_eigen(target, data)[0][-1])


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


def value_bound(concentrability: float, bellman_error: float, discount: float) -> float:
    """A bound on the error of the start value: sqrt(C) / (1 - gamma) times the norm of Q - TQ in L2(mu)."""
    return math.sqrt(concentrability) * bellman_error / (1.0 - discount)


def predicted_error(
    concentrability: float, amplification: float, dimension: int, size: int, discount: float, value_range: float
) -> float:
    """sqrt(C amplification d log(n) / n) / (1 - gamma) range: ranks problems by their error, and bounds nothing."""
    statistical = dimension * math.log(max(size, 2)) / size
    return math.sqrt(concentrability * amplification * statistical) / (1.0 - discount) * value_range


def generalised_eigen(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues and vectors of first x = lambda second x, ascending, where `second` is not zero.

    Args:
      first: [d, d].
      second: [d, d] positive semi-definite; directions below the cut-off are left out.
    """
    white = whitening(second)
    values, vectors = np.linalg.eigh(_symmetric(white.T @ first @ white))
    return values, white @ vectors


def whitening(matrix: Floats) -> Floats:
    """[d, rank] W with W' matrix W = 1, so that W W' is its inverse where it is not zero."""
    values, vectors = np.linalg.eigh(_symmetric(matrix))
    kept = values > CUTOFF * max(values[-1], 0.0)
    if not kept.any():
        return np.eye(len(matrix))[:, :1] * math.nan
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]), np.float64)


def _symmetric(matrix: Floats) -> Floats:
    return np.asarray((matrix + matrix.T) / 2.0, np.float64)
