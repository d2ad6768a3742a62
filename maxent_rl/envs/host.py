"""What a host environment is: NumPy arrays in and out, many environments side by side, stepped by Python.

`GymnasiumEnvs` and `EnvpoolEnvs` have this form; `training.loops.host` relies on nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from maxent_rl.errors import IncompatibleEnvironmentError
from maxent_rl.storage.files import first_line
from maxent_rl.types import Spec

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class HostStep(NamedTuple):
    """What one step of N environments gives.

    Attributes:
      next_observation: [N, observation] float32; the true observation after the action, also where an episode ended.
      reward: [N] float32.
      terminated: [N] bool; the episode ended in a terminal state.
      truncated: [N] bool; a time limit cut the episode; never true where `terminated` is.
      observation: [N, observation] float32, from which the next action is chosen: `next_observation`, or the first
        observation of the new episode where one ended.
      success: [N] float32; whether the task is solved after the step, where the environment's `info` tells ("is_success" or
        "success"), NaN where it does not; None where none of them tells.
    """

    next_observation: Floats
    reward: Floats
    terminated: Bools
    truncated: Bools
    observation: Floats
    success: Floats | None = None


class HostEnvs(Protocol):
    """N environments that run side by side and reset themselves when an episode ends.

    The environments are ordered seed-major: those of the first seed, then those of the second. Each one's random
    numbers come from its own entry of `seeds` alone, so that an environment does the same in whatever company.
    """

    @property
    def spec(self) -> Spec:
        """Shapes and horizon, the same for all N."""
        ...

    @property
    def num_envs(self) -> int:
        """N."""
        ...

    def reset(self, seeds: Sequence[int] | None = None) -> Floats:
        """Starts the first episode of every environment: [N, observation].

        Args:
          seeds: others than before, at most as many as the environments were made with: N is then their number.
        """
        ...

    def step(self, action: Floats) -> HostStep:
        """Takes one step in every environment; `action` is [N, action] in [-1, 1]."""
        ...

    def take_remarks(self) -> list[str]:
        """What users should know of these environments, found since the last call: a sentence each, none twice."""
        ...

    def try_state(self) -> None:
        """Finds out whether `get_state` can tell the state, which may take steps; a `reset` or `set_state` must follow."""
        ...

    def get_state(self) -> dict[str, Any] | None:
        """Everything that decides later steps, as a dict of lists and arrays with one entry for each environment.

        Returns None where the backend cannot tell its state; a resumed run then starts new episodes and says so.
        """
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` gave; later steps are then bit-identical."""
        ...

    def close(self) -> None:
        """Frees what the environments hold."""
        ...


@dataclasses.dataclass(frozen=True)
class HostSource:
    """Makes host environments of one kind, from one seed for each.

    Attributes:
      make: makes them.
      side_by_side: how many of each seed's episodes of an evaluation may be played in environments open at once.
    """

    make: Callable[[list[int]], HostEnvs]
    side_by_side: int

    def __call__(self, seeds: list[int]) -> HostEnvs:
        """Opens one environment for each seed."""
        return self.make(seeds)

    def check_more(self, count: int, open_already: int) -> None:
        """Makes sure, before anything is learned, that as many further ones can be opened as evaluation will need.

        Args:
          count: of those that it will need.
          open_already: of those that training steps.

        Raises:
          IncompatibleEnvironmentError: they cannot, saying what to do.
        """
        try:
            self.make(list(range(count))).close()
        except Exception as error:  # whatever a foreign environment raises
            told = f"{type(error).__name__}: {first_line(error).rstrip('.')}"
            raise IncompatibleEnvironmentError(
                f"Evaluation needs {count} of these environments besides the {open_already} that training steps, and could "
                f"not open them ({told}): evaluate in fewer (--eval-num-envs), or not at all (--eval-episodes 0)."
            ) from error
