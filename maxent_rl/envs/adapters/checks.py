"""What environments of others give, looked at in every step: the right thing, or one sentence that says what came.

NumPy would broadcast one number over a whole observation, read None as False and a text as a number. What has just the usual
types passes by a few comparisons of types and shapes; only what has not is looked at closely.
"""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.told import REAL_KINDS, as_array, raised, said, told
from maxent_rl.errors import (
    EnvironmentFailedError,
    IncompatibleEnvironmentError,
    MaxentRLError,
    MissingDependencyError,
)
from maxent_rl.spaces import Space, flatten

_REALS = frozenset({float, int, bool} | {np.dtype(code).type for code in "?bhilqBHILQefdg"})
_FLAGS = frozenset({bool, np.bool_})
_AT_START = "at the start of an episode"
MISSING = (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError)
"""What environments raise that lack a package."""


class Checks:
    """Resets and steps N environments of one kind, one at a time, and looks at what they give.

    It may be used from several threads, each for environments of its own.
    """

    def __init__(
        self,
        name: str,
        envs: Sequence[gymnasium.Env[Any, Any]],
        space: Space | None,
        steps: Callable[[int], int] = lambda _: 0,
        seen: Callable[[Any, float], None] | None = None,
    ) -> None:
        """Reads what to expect.

        Args:
          name: for messages.
          envs: the environments.
          space: of their observations; None where these are not asked for as agents see them.
          steps: the steps that an environment has taken in its running episode, for messages.
          seen: is shown what each step of the first environment gave, the observation as it came, and the reward.
        """
        self._seen = seen
        self._name, self._envs, self._space, self._steps = name, envs, space, steps
        # Of observations that are the vector itself.
        self._shape = space.shape if space is not None and space.kind == "box" and len(space.shape) == 1 else None

    def reset(self, index: int, seed: int | None = None) -> NDArray[Any]:
        """Starts an episode, from a seed where one is given; the observation [observation], as agents see it.

        Raises:
          IncompatibleEnvironmentError: `reset` takes no seed, or gives something else.
          EnvironmentFailedError: it raised an exception of its own, which is the cause.
        """
        try:
            return self._vector(self.reset_raw(index, seed), index, _AT_START)
        except MaxentRLError as error:
            error.place = index, len(self._envs)
            raise

    def reset_raw(self, index: int, seed: int | None = None) -> Any:
        """As `reset`, with the observation as the environment gives it, whatever that is."""
        env = self._envs[index]
        try:
            # A seed is given once: not every environment that is reset without one has to know of None.
            result: Any = env.reset() if seed is None else env.reset(seed=seed)
        except MaxentRLError:
            raise
        except Exception as error:  # whatever a foreign environment raises
            if "unexpected keyword argument 'seed'" in str(error):
                raise IncompatibleEnvironmentError(
                    f"The reset of {self._who(index)} takes no seed; expected reset(self, *, seed=None, options=None)."
                ) from error
            raise self._raised(index, _AT_START, error) from error
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise IncompatibleEnvironmentError(
                f"The reset of {self._who(index)} gave {told(result)}; expected two values, observation and info."
            )
        return result[0]

    def step(self, index: int, command: Any) -> tuple[NDArray[Any], float, bool, bool, Any]:
        """Takes a step: the observation [observation], as agents see it, the reward, the two flags, and info as it came.

        Raises:
          IncompatibleEnvironmentError: `step` gives something else.
          EnvironmentFailedError: it raised an exception of its own, which is the cause.
        """
        try:
            observed, reward, terminated, truncated, info = self.step_raw(index, command)
            vector = observed
            if not (
                type(observed) is np.ndarray and observed.shape == self._shape and observed.dtype.kind in REAL_KINDS
            ):
                vector = self._vector(observed, index, self._when(index))
        except MaxentRLError as error:
            error.place = index, len(self._envs)
            raise
        if self._seen is not None and not index:
            self._seen(observed, reward)
        return vector, reward, terminated, truncated, info

    def step_raw(self, index: int, command: Any) -> tuple[Any, float, bool, bool, Any]:
        """As `step`, with the observation as the environment gives it, whatever that is."""
        try:
            result: Any = self._envs[index].step(command)
        except MaxentRLError:
            raise
        except Exception as error:  # whatever a foreign environment raises
            raise self._raised(index, self._when(index), error) from error
        try:
            observed, reward, terminated, truncated, info = result
        except (TypeError, ValueError):
            raise self._wrong_result(result, index) from None
        if not (type(reward) in _REALS and type(terminated) in _FLAGS and type(truncated) in _FLAGS):
            when = self._when(index)
            reward = self._number(reward, index, when)
            terminated = self._flag("terminated", terminated, index, when)
            truncated = self._flag("truncated", truncated, index, when)
        return observed, reward, terminated, truncated, info

    def _vector(self, observed: Any, index: int, when: str) -> NDArray[Any]:
        assert self._space is not None
        who = f"{self._who(index)}, {when}, gave"
        vector = flatten(self._space, observed, who)
        if vector.ndim != 1:
            raise IncompatibleEnvironmentError(
                f"{who} observations with the leading axes {vector.shape[:-1]}; expected a single one, as its observation "
                "space says."
            )
        return vector

    def _number(self, reward: Any, index: int, when: str) -> float:
        if isinstance(reward, numbers.Real):
            return float(reward)
        array = as_array(reward)
        if array is not None and not array.shape and array.dtype.kind in REAL_KINDS:
            return float(array)
        raise IncompatibleEnvironmentError(
            f"{self._who(index)} gave {told(reward)} as the reward {when}; expected one number, such as float(reward)."
        )

    def _flag(self, which: str, flag: Any, index: int, when: str) -> bool:
        array = None if isinstance(flag, str) else as_array(flag)
        if array is not None and not array.shape and array.dtype.kind in REAL_KINDS and array in (0, 1):
            return bool(array)
        raise IncompatibleEnvironmentError(
            f"{self._who(index)} gave {told(flag)} as {which} {when}; expected True or False."
        )

    def _wrong_result(self, result: Any, index: int) -> IncompatibleEnvironmentError:
        came = f"{len(result)} values" if isinstance(result, (tuple, list)) else told(result)
        old = ", where old Gym's done is told apart into the two" if came == "4 values" else ""
        return IncompatibleEnvironmentError(
            f"{self._who(index)} gave {came} {self._when(index)}; expected five: observation, reward, terminated, "
            f"truncated and info{old}."
        )

    def _raised(self, index: int, when: str, error: Exception) -> MaxentRLError:
        if isinstance(error, MISSING):
            return missing(self._who(index), error)
        old = ""
        if isinstance(error, ValueError) and "not enough values to unpack (expected 5, got 4)" in str(error):
            # A wrapper has met an environment of the old API.
            old = ": step must give five values, where old Gym's done is told apart into terminated and truncated"
        return EnvironmentFailedError(f"{self._who(index)} raised {raised(error)} {when}{old}.")

    def _who(self, index: int) -> str:
        return f"{self._name} (environment {index} of {len(self._envs)})"

    def _when(self, index: int) -> str:
        return f"in step {self._steps(index) + 1} of its episode"


def check_spaces(env: gymnasium.Env[Any, Any], name: str) -> None:
    """Sees to it that an environment has both spaces.

    Raises:
      IncompatibleEnvironmentError: one is missing, is a class, or is no space of Gymnasium's.
    """
    for which in ("observation_space", "action_space"):
        try:
            space: Any = getattr(env, which)
        except Exception as error:  # it may be a property, of a foreign environment
            why = "" if isinstance(error, AttributeError) else f" (it raised {raised(error)})"
            raise IncompatibleEnvironmentError(
                f"{name} has no {which}{why}; expected a space of Gymnasium's, such as Box or Discrete."
            ) from error
        if isinstance(space, type):
            raise IncompatibleEnvironmentError(
                f"{name} has the class {space.__name__} as its {which}; expected a space itself, such as Discrete(2)."
            )
        if not isinstance(space, gymnasium.Space):
            raise IncompatibleEnvironmentError(
                f"{name} has {told(space)} as its {which}; expected a space of Gymnasium's, such as Box or Discrete."
            )


@contextlib.contextmanager
def making(name: str) -> Iterator[None]:
    """Turns whatever the maker of an environment raises into one sentence.

    Args:
      name: of the environment, or of the function that makes it.

    Raises:
      MissingDependencyError: a package that it needs is not installed.
      EnvironmentFailedError: anything else.
    """
    try:
        yield
    except MaxentRLError:
        raise
    except MISSING as error:
        raise missing(name, error) from error
    except Exception as error:  # whatever foreign code raises
        raise EnvironmentFailedError(f"{name} cannot be made: it raised {raised(error)}.") from error


def missing(name: str, error: Exception) -> MissingDependencyError:
    """The error for an environment that lacks a package."""
    return MissingDependencyError(f"{name} needs a package that is not installed: {said(error)}.")
