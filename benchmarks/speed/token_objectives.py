"""The losses of the token benchmark: the library's own objectives, as functions of what the benchmark differentiates."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jax import Array

from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives


class Rollout(NamedTuple):
    """What a loss reads beside the statistics of its tokens; `logp_old` and `mask` [N, T], `rewards` [N] in groups."""

    logp_old: Array
    mask: Array
    rewards: Array
    group_size: int


Loss = Callable[[Array, Rollout, Array], Array]
"""Takes logp [N, T], a rollout and a random key, and gives the loss []."""


def loss_of(name: str) -> Loss:
    """The loss of an objective, advantages included.

    Raises:
      UnknownNameError: there is no such objective.
    """
    objective = objectives.make(name)

    def loss(logp: Array, rollout: Rollout, key: Array) -> Array:
        batch = TokenBatch(rollout.logp_old, rollout.mask, rollout.rewards, rollout.group_size)
        return objective(objective.init(key), TokenOutputs(logp), batch)[0]

    return loss
