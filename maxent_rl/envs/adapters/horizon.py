"""How long episodes of a host environment are: its own limit, where it tells one, or ours."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np

from maxent_rl.envs.adapters.wrappers import layers

DEFAULT_HORIZON = 1000
NO_LIMIT = "it has no limit of its own that it tells"
# Attributes by which environments without a TimeLimit tell their own, as MiniGrid's do.
_TOLD = ("max_episode_steps", "_max_episode_steps", "max_steps")


class Horizon(NamedTuple):
    """The most steps of an episode.

    Attributes:
      steps: after so many an episode is cut here, unless it ended in that step.
      doubt: why a cut of ours may come as a surprise, in words; None where somebody asked for it.
    """

    steps: int
    doubt: str | None = None

    def remark(self, name: str) -> str | None:
        """A sentence for when the first episode was cut that the environment did not end; None where nobody need be told."""
        if self.doubt is None:
            return None
        return (
            f"An episode of {name} was cut after {self.steps:,} steps, as all will be, because {self.doubt}: "
            "--max-episode-steps sets another number."
        )


def horizon_of(env: gymnasium.Env[Any, Any], given: int | None = None) -> Horizon:
    """The most steps of an episode: the shorter of what is given and what limits the environment, or 1,000 without either.

    Args:
      env: the environment, with its wrappers.
      given: what the user wants, or None.
    """
    limits = [limit for limit in (given, _time_limit(env)) if limit is not None]
    if limits:
        return Horizon(min(limits))
    told = [(limit, name) for layer in layers(env) for name in _TOLD if (limit := _whole(getattr(layer, name, None)))]
    if not told:
        return Horizon(DEFAULT_HORIZON, NO_LIMIT)
    steps, name = min(told)
    return Horizon(steps, f"its {name} is {steps:,}, though it went on there")


def _time_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """The limit that Gymnasium itself keeps, by a wrapper or by registration; None where there is none."""
    wrapped = [layer._max_episode_steps for layer in layers(env) if isinstance(layer, gymnasium.wrappers.TimeLimit)]
    registered = [] if wrapped else [getattr(env.spec, "max_episode_steps", None)]
    return min((limit for each in (*wrapped, *registered) if (limit := _whole(each))), default=None)


def _whole(value: Any) -> int | None:
    """A positive whole number as such; None for anything else that an attribute of that name can be."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return int(value) if whole and 0 < value < 2**31 else None
