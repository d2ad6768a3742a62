"""Learning rates that go down in the course of a run: settings and rule, for agents of any family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from flax import struct

from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Count, Fraction, Settings, setting, static
from maxent_rl.types import Array
from maxent_rl.usage import unless

_SCHEDULED = unless(learning_rate_schedule="constant")


@struct.dataclass
class LearningRates(Settings):
    """How learning rates change. What they are stands with the agent, as their defaults differ."""

    learning_rate_schedule: Literal["constant", "linear", "cosine"] = static("constant")
    """How all learning rates go from their value to --learning-rate-end times it."""
    learning_rate_end: Fraction = setting(0.1, used_when=_SCHEDULED)
    """Share of the learning rates that is left at the schedule's end."""
    scheduled_updates: Count | None = setting(None, used_when=_SCHEDULED)
    """Gradient steps that the schedule takes; None for all of the run."""

    def updates_of(self, total_steps: int) -> float | None:
        """Gradient steps of a run of so many environment steps of a seed (or gradient steps, where learning is offline).

        None where their number is not known before: an update for each whole episode.
        """
        return total_steps

    def rate_share(self, updates: Array) -> Array:
        """The share [] of the learning rates after so many gradient steps []."""
        done = jnp.minimum(updates / jnp.asarray(self.scheduled_updates, jnp.float32), 1.0)
        left = 1.0 - done if self.learning_rate_schedule == "linear" else 0.5 * (1.0 + jnp.cos(jnp.pi * done))
        return self.learning_rate_end + (1.0 - self.learning_rate_end) * left

    def scheduled(self, rate: Any, every: int = 1) -> Any | Callable[[Array], Array]:
        """A rate as `optax` takes it.

        Args:
          rate: the learning rate at the start.
          every: gradient steps of the schedule for each one of what has this rate.
        """
        if self.learning_rate_schedule == "constant":
            return rate
        return lambda count: rate * self.rate_share(count * every)

    def _check_rates(self) -> None:
        if self.learning_rate_schedule != "constant" and self.scheduled_updates is None:
            raise InvalidSettingError(
                f"--learning-rate-schedule {self.learning_rate_schedule} needs --scheduled-updates, the updates that it takes."
            )
