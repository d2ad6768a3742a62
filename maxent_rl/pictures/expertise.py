"""What the experts of a policy do, as arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maxent_rl.agents.experts import COLLAPSED

Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Expertise:
    """What the experts of a policy do in all states of some episodes, S states in a row.

    Attributes:
      observation: [S, observation].
      chosen: [S] the expert that acted, or the one of the largest weight where none is drawn.
      weights: [S, expert] of the router.
      router_entropy: [S] in nats.
      expert_entropy: [S, expert] of each expert's actions, in nats (one sample each where there is no closed form).
      actions: [S, expert, action] the most likely action of each expert.
      draws: whether an expert is drawn for each action; where not, all are mixed into one.
    """

    observation: Floats
    chosen: NDArray[np.int32]
    weights: Floats
    router_entropy: Floats
    expert_entropy: Floats
    actions: Floats
    draws: bool

    @property
    def num_experts(self) -> int:
        """How many experts there are."""
        return int(self.weights.shape[1])

    @property
    def usage(self) -> Floats:
        """[expert] share of the states in which each is `chosen`."""
        counts = np.bincount(self.chosen, minlength=self.num_experts)
        return (counts / len(self.chosen)).astype(np.float32)

    @property
    def collapsed(self) -> int | None:
        """The expert that holds over 99 % of the router's weight, if one does."""
        heaviest = int(self.weights.mean(axis=0).argmax())
        return heaviest if self.weights[:, heaviest].mean() > COLLAPSED else None


def principal_components(points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The plane in which points [point, axis] vary most.

    Returns:
      (coordinates [point, 2], shares [2] of the variance); the sign of an axis is such that its largest entry is positive,
      the first of equally large ones.
    """
    centred = np.asarray(points, np.float64)
    centred = centred - centred.mean(axis=0)
    _, spreads, axes = np.linalg.svd(centred, full_matrices=False)
    axes, total = axes[:2], np.sum(spreads**2)
    size = np.abs(axes)
    # As large as the largest but for rounding, that of the points themselves included.
    largest = np.argmax(size >= size.max(axis=1, keepdims=True) * (1 - 1e-6), axis=1)
    axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
    return centred @ axes.T, spreads[:2] ** 2 / (total if total > 0 else 1.0)
