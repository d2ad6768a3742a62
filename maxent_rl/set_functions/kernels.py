"""Covariances of Gaussian processes over points, in NumPy and float64, for the functions of `gaussian_process`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maxent_rl.errors import InvalidSettingError, ShapeError

Floats = NDArray[np.float64]


def matern52(points: ArrayLike, lengthscale: float, variance: float = 1.0) -> Floats:
    """Matern covariance of smoothness 5/2: variance (1 + d + d^2 / 3) exp(-d), d = sqrt(5) distance / lengthscale.

    Args:
      points: [point, axis].
      lengthscale: in units of the points.
      variance: of the process at each point.

    Returns:
      [point, point].
    """
    scaled = np.sqrt(5.0) * distances(points, lengthscale, variance)
    return np.asarray(variance * (1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled))


def squared_exponential(points: ArrayLike, lengthscale: float, variance: float = 1.0) -> Floats:
    """Squared-exponential covariance: variance exp(-0.5 (distance / lengthscale)^2).

    Args:
      points: [point, axis].
      lengthscale: in units of the points.
      variance: of the process at each point.

    Returns:
      [point, point].
    """
    return variance * np.exp(-0.5 * distances(points, lengthscale, variance) ** 2)


def posterior_covariance(covariance: ArrayLike, observed: ArrayLike, noise_variance: float) -> Floats:
    """The covariance that is left after noisy observations: K - K_o (K_oo + noise I)^-1 K_o^T.

    Args:
      covariance: [point, point] before them.
      observed: [n] indices of the observed points; none leave the covariance as it is.
      noise_variance: of an observation, above 0.

    Returns:
      [point, point].

    Raises:
      InvalidSettingError: the noise variance is not above 0.
    """
    if not noise_variance > 0:
        raise InvalidSettingError(f"The noise variance must be above 0, got {noise_variance:g}.")
    prior, indices = np.asarray(covariance, np.float64), np.asarray(observed, np.int64)
    factor = np.linalg.cholesky(prior[np.ix_(indices, indices)] + noise_variance * np.eye(len(indices)))
    projected = np.linalg.solve(factor, prior[indices])
    return np.asarray(prior - projected.T @ projected)


def sample_field(covariance: ArrayLike, seed: int) -> Floats:
    """One sample [point] of a Gaussian process with this covariance [point, point] and mean 0.

    A millionth of a millionth of the variance is added to the diagonal first, and tenfold until rounding does no harm.
    """
    values = np.asarray(covariance, np.float64)
    normal = np.random.default_rng(seed).standard_normal(len(values))
    largest = float(np.max(np.diagonal(values)))
    for exponent in range(-12, -3):
        try:
            return np.asarray(np.linalg.cholesky(values + largest * 10.0**exponent * np.eye(len(values))) @ normal)
        except np.linalg.LinAlgError:
            continue
    raise InvalidSettingError("A covariance must have no negative eigenvalue, or there is nothing to sample from.")


def distances(points: ArrayLike, lengthscale: float, variance: float) -> Floats:
    """Distances [point, point] between points [point, axis] in lengthscales.

    Raises:
      ShapeError: the points are not a table.
      InvalidSettingError: the lengthscale or the variance is not above 0.
    """
    values = np.asarray(points, np.float64)
    if values.ndim != 2:
        raise ShapeError(f"The points must be [point, axis], got {list(values.shape)}.")
    if not (lengthscale > 0 and variance > 0):
        raise InvalidSettingError(f"Lengthscale and variance must be above 0, got {lengthscale:g} and {variance:g}.")
    return np.asarray(np.linalg.norm(values[:, None] - values, axis=-1) / lengthscale)
