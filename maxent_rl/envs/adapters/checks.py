"""What environments of others give, looked at in every step: the right thing, or one sentence that says what came.

NumPy would broadcast one number over a whole observation, read None as False and a text as a number. What has just the usual
types passes by a few comparisons of types and shapes; only what has not is looked at closely.
"""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
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

_REALS = frozenset({float, int, bool} | {np.dtype(code).type for code in "?bhilqBHILQefdg"})
_FLAGS = frozenset({bool, np.bool_})
MISSING = (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError)
"""What environments raise that lack a package."""


class Checks:
    """Resets and steps N environments of one kind, one at a time, and looks at what they give.

    It may be used from several threads, each for environments of its own.
    """

    def __init__(
        self, name: str, envs: Sequence[gymnasium.Env[Any, Any]], steps: Callable[[int], int] = lambda _: 0
    ) -> None:
        """Reads what to expect.

        Args:
          name: for messages.
          envs: whose spaces are those of the first one.
          steps: the steps that an environment has taken in its running episode, for messages.
        """
        self._name, self._envs, self._steps = name, envs, steps
        self._space = envs[0].observation_space
        self._shape = self._space.shape if isinstance(self._space, gymnasium.spaces.Box) else None

    def reset(self, index: int, seed: int | None = None) -> Any:
        """Starts an episode, from a seed where one is given; the observation, which is one of the space.

        Raises:
          IncompatibleEnvironmentError: `reset` takes no seed, or gives something else.
          EnvironmentFailedError: it raised an exception of its own, which is the cause.
        """
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
            raise self._raised(index, "at the start of an episode", error) from error
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise IncompatibleEnvironmentError(
                f"The reset of {self._who(index)} gave {told(result)}; expected two values, observation and info."
            )
        return self._observation(result[0], index, "at the start of an episode")

    def step(self, index: int, command: Any) -> tuple[Any, float, bool, bool]:
        """Takes a step: the observation, which is one of the space, the reward, and the two flags.

        Raises:
          IncompatibleEnvironmentError: `step` gives something else.
          EnvironmentFailedError: it raised an exception of its own, which is the cause.
        """
        try:
            result: Any = self._envs[index].step(command)
        except MaxentRLError:
            raise
        except Exception as error:  # whatever a foreign environment raises
            raise self._raised(index, self._when(index), error) from error
        try:
            observed, reward, terminated, truncated, _ = result
        except (TypeError, ValueError):
            raise self._wrong_result(result, index) from None
        if not (
            type(observed) is np.ndarray
            and observed.shape == self._shape
            and observed.dtype.kind in REAL_KINDS
            and type(reward) in _REALS
            and type(terminated) in _FLAGS
            and type(truncated) in _FLAGS
        ):
            when = self._when(index)
            observed = self._observation(observed, index, when)
            reward = self._number(reward, index, when)
            terminated = self._flag("terminated", terminated, index, when)
            truncated = self._flag("truncated", truncated, index, when)
        return observed, reward, terminated, truncated

    def _observation(self, observed: Any, index: int, when: str) -> Any:
        return conform(self._space, observed, f"{self._who(index)} gave", when)

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


def conform(space: gymnasium.Space[Any], observed: Any, gave: str, when: str, place: str = "the observation") -> Any:
    """An observation as its space has it: arrays of its shapes where it has them, all parts, and no others.

    Bounds are not looked at: many environments leave them, and nothing depends on it.

    Args:
      space: Box, Discrete, MultiBinary, MultiDiscrete, or a Dict or Tuple of such; others let everything pass.
      observed: what came.
      gave: how the sentence begins.
      when: in which step.
      place: which part it is.

    Raises:
      IncompatibleEnvironmentError: it is none of this space.
    """
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict):
        if isinstance(observed, Mapping) and set(observed) == set(space.spaces):
            parts = space.spaces.items()
            return {key: conform(part, observed[key], gave, when, f"{place}[{key!r}]") for key, part in parts}
    elif isinstance(space, spaces.Tuple):
        if isinstance(observed, (tuple, list)) and len(observed) == len(space.spaces):
            pairs = enumerate(zip(space.spaces, observed, strict=True))
            return tuple(conform(part, value, gave, when, f"{place}[{entry}]") for entry, (part, value) in pairs)
    elif not isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)):
        return observed
    else:
        array = as_array(observed)
        if array is not None and _is_of(space, array):
            return array
    raise IncompatibleEnvironmentError(
        f"{gave} {told(observed)} as {place} {when}; expected {_expected(space)}, as its observation space says."
    )


def _is_of(space: Any, array: NDArray[Any]) -> bool:
    kinds = REAL_KINDS if isinstance(space, gymnasium.spaces.Box) else "iub"
    if array.shape != space.shape or array.dtype.kind not in kinds:
        return False
    return not isinstance(space, gymnasium.spaces.Discrete) or bool(space.start <= array < space.start + space.n)


def _expected(space: Any) -> str:
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict):
        return f"a dict with {', '.join(map(repr, space.spaces))}"
    if isinstance(space, spaces.Tuple):
        return f"a tuple of {len(space.spaces)}"
    if isinstance(space, spaces.Discrete):
        return f"a whole number from {space.start} to {space.start + space.n - 1}"
    return f"{'' if isinstance(space, spaces.Box) else 'whole '}numbers of shape {space.shape}"


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
