"""The law of score and entropy, `R = -a exp(H) + b`: what a run will reach once its entropy is used up.

Source: The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models (arXiv 2505.22617).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of an entropy: policies compute it in single precision


@dataclasses.dataclass(frozen=True)
class EntropyLaw:
    """The law `R = -a exp(H) + b`; all NaN where the points do not say what it is.

    Attributes:
      a: how much score the entropy is traded for, in the unit of the score.
      b: the rest, in the unit of the score.
      rmse: root of the mean squared residual on the held-out points, or on all points where none were held out.
    """

    a: float
    b: float
    rmse: float

    @property
    def ceiling(self) -> float:
        """The score at an entropy of 0, beyond which the run cannot come."""
        return self.b - self.a

    def predict(self, entropy: ArrayLike) -> NDArray[np.float64]:
        """The score [...] at an entropy [...] in nats."""
        return np.asarray(self.b - self.a * np.exp(np.asarray(entropy, float)))

    def slope(self, entropy: ArrayLike) -> NDArray[np.float64]:
        """By how much the score [...] rises with the entropy [...], per nat: falls, where `a` is positive."""
        return np.asarray(-self.a * np.exp(np.asarray(entropy, float)))

    def error(self, entropy: ArrayLike, score: ArrayLike) -> float:
        """The root of the mean squared residual on other points; NaN without any."""
        residual = np.asarray(score, float) - self.predict(entropy)
        return float(np.sqrt(np.mean(residual**2))) if residual.size else float("nan")


def fit_entropy_law(entropy: ArrayLike, score: ArrayLike, *, share: float = 1.0, window: int = 1) -> EntropyLaw:
    """Fits the law by least squares, which is linear in `exp(H)`.

    Args:
      entropy: [step] mean entropy of the policy's tokens along a run, in nats.
      score: [step] the validation score at the same steps, in any unit; steps where either is not finite are left out.
      share: the first share of the steps that is fitted (the paper: 0.15); the error is that on the rest.
      window: steps that both are averaged over, each with those before it, so that no later step reaches the fitted ones.

    Returns:
      The law; NaN if fewer than two steps are fitted, or all have the same entropy but for rounding.

    Raises:
      ValueError: shapes that differ, a share outside (0, 1], a window below 1.

    Source: arXiv 2505.22617: the fit, and its use as a prediction from the first steps.
    """
    entropies, scores = np.asarray(entropy, float), np.asarray(score, float)
    if entropies.ndim != 1 or entropies.shape != scores.shape:
        raise ValueError(f"entropy and score must be [step] alike; got {entropies.shape} and {scores.shape}.")
    if not 0 < share <= 1 or window < 1:
        raise ValueError(f"share must be in (0, 1] and window at least 1; got {share} and {window}.")
    finite = np.isfinite(entropies) & np.isfinite(scores)
    entropies, scores = _smooth(entropies[finite], window), _smooth(scores[finite], window)
    fitted = round(share * len(entropies))
    x, y = np.exp(entropies[:fitted]), scores[:fitted]
    if fitted < 2 or np.ptp(x) <= _ROUNDING * np.max(x):
        return EntropyLaw(float("nan"), float("nan"), float("nan"))
    centred = x - x.mean()
    a = float(-np.sum(centred * (y - y.mean())) / np.sum(centred**2))
    law = EntropyLaw(a, float(y.mean() + a * x.mean()), float("nan"))
    held_out = slice(fitted if fitted < len(scores) else 0, None)
    return dataclasses.replace(law, rmse=law.error(entropies[held_out], scores[held_out]))


def _smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Means over whole windows: [step] to [step - window + 1]."""
    if len(values) < window:
        return values[:0]
    return np.convolve(values, np.full(window, 1.0 / window), mode="valid")
