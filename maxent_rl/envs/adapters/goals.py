"""What a goal environment pays for a goal that was not the one wanted: its own `compute_reward`, for many steps at once.

The form is that of gymnasium-robotics' `GoalEnv`: `compute_reward(achieved_goal, desired_goal, info)` and, where the goal
decides of the end, `compute_terminated` of the same. Nothing is known of a relabelled step but its goals, so `info` is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.adapters.checks import Checks
from maxent_rl.envs.host import Bools, Floats
from maxent_rl.envs.told import raised
from maxent_rl.errors import EnvironmentFailedError, IncompatibleEnvironmentError, NonFiniteError
from maxent_rl.spaces import Goals

_TRIED_STEPS = 3


class GoalRule:
    """Rewards and terminations of steps for other goals, by the methods of a Gymnasium environment."""

    def __init__(self, env: gymnasium.Env[Any, Any], goals: Goals, name: str, seed: int) -> None:
        """Tries the environment's methods out on some steps; what comes next must be a reset with a seed.

        Args:
          env: the environment, which observes a Dict with goals.
          goals: where they stand in observations.
          name: of the environment, for messages.
          seed: to reset it with.

        Raises:
          IncompatibleEnvironmentError: it has no `compute_reward`, or one that does not give what a step pays.
          EnvironmentFailedError: a method raised an exception, which is the cause.
        """
        self._goals, self._name = goals, name
        self._reward, self._terminated = _method(env, "compute_reward"), _method(env, "compute_terminated")
        if self._reward is None:
            raise IncompatibleEnvironmentError(
                f"{name} has no compute_reward(achieved_goal, desired_goal, info), which relabelled steps are paid by; "
                "give it one, or leave --goal-relabel out."
            )
        achieved, desired = self._try(env, seed)
        # Also with goals that were reached, which pay something else than those of most random steps.
        achieved, desired = np.concatenate([achieved, achieved]), np.concatenate([desired, achieved])
        self._many_rewards = self._takes_many(self._reward, achieved, desired)
        if self._terminated is not None:
            try:
                self._many_ends = self._takes_many(self._terminated, achieved, desired)
            except NotImplementedError:  # the base class's own
                self._terminated = None

    def outcomes(
        self, achieved: Floats, desired: Floats, desired_before: Floats, terminated: Bools
    ) -> tuple[Floats, Bools]:
        """What steps pay for other goals, and whether they end the episode.

        Args:
          achieved: [N, goal] what they reached.
          desired: [N, goal] the new goals.
          desired_before: [N, goal] those that were wanted when they were taken.
          terminated: [N] whether they ended the episode then. One that did so for another reason than its goal still does.

        Returns:
          (reward [N], terminated [N]).

        Raises:
          NonFiniteError: a reward is NaN or infinite.
          EnvironmentFailedError: a method of the environment raised, or gave something else than a number for each step.
        """
        assert self._reward is not None
        reward = self._call(self._reward, self._many_rewards, achieved, desired).astype(np.float32)
        if not np.isfinite(reward).all():
            index = int(np.argmin(np.isfinite(reward)))
            error = NonFiniteError(
                f"{self._name}: compute_reward gave {reward[index]} for achieved_goal {achieved[index].tolist()} and "
                f"desired_goal {desired[index].tolist()}."
            )
            error.place = index, len(reward)
            raise error
        if self._terminated is None:
            return reward, terminated
        ended = self._call(self._terminated, self._many_ends, achieved, desired) > 0
        if terminated.any():
            before = achieved[terminated], desired_before[terminated]
            ended[terminated] |= self._call(self._terminated, self._many_ends, *before) == 0
        return reward, ended

    def _call(self, method: Callable[..., Any], many: bool, achieved: Floats, desired: Floats) -> NDArray[np.float64]:
        """[N] what a method gives for goals [N, goal]: called once, if it takes many, or for each."""
        shape = (len(achieved), *self._goals.shape)
        reached, wanted = (goal.reshape(shape).astype(self._goals.dtype) for goal in (achieved, desired))
        try:
            if many:
                return np.asarray(method(reached, wanted, {}), np.float64).reshape(len(achieved))
            pairs = zip(reached, wanted, strict=True)
            return np.array([float(method(*pair, {})) for pair in pairs], np.float64)
        except Exception as error:  # a foreign method may fail in any way
            raise self._failed(method, error) from error

    def _takes_many(self, method: Callable[..., Any], achieved: NDArray[Any], desired: NDArray[Any]) -> bool:
        """Whether a method gives for many steps at once what it gives for each."""
        try:
            each = [float(method(*pair, {})) for pair in zip(achieved, desired, strict=True)]
        except NotImplementedError:
            raise
        except Exception as error:  # as above
            raise self._failed(method, error) from error
        try:
            found = np.asarray(method(achieved, desired, {}), np.float64)
        except Exception:  # as above; then it is called for each step
            return False
        return found.shape == (len(each),) and np.allclose(found, each)

    def _try(self, env: gymnasium.Env[Any, Any], seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """[n, *goal] goals achieved and wanted in some steps, whose rewards are found to follow from them."""
        assert self._reward is not None
        checks = Checks(self._name, [env], None)
        checks.reset_raw(0, seed)
        env.action_space.seed(seed)
        pairs = []
        for _ in range(_TRIED_STEPS):
            observed, paid, terminated, truncated, _ = checks.step_raw(0, env.action_space.sample())
            pair = np.array(observed["achieved_goal"]), np.array(observed["desired_goal"])
            try:
                found = float(self._reward(*pair, {}))
            except Exception as error:  # as above
                raise self._failed(self._reward, error) from error
            if not np.isclose(found, paid, rtol=1e-4, atol=1e-6):
                raise IncompatibleEnvironmentError(
                    f"{self._name} paid {paid:g} in a step for whose goals compute_reward gives {found:g}; expected the "
                    "same, as relabelled steps are paid by it: leave --goal-relabel out, or have goals alone decide rewards."
                )
            pairs.append(pair)
            if terminated or truncated:
                checks.reset_raw(0)
        achieved, desired = (np.stack(goals) for goals in zip(*pairs, strict=True))
        return achieved, desired

    def _failed(self, method: Callable[..., Any], error: Exception) -> EnvironmentFailedError:
        return EnvironmentFailedError(
            f"{self._name}: {getattr(method, '__name__', 'a method')} raised {raised(error)} for goals of shape "
            f"{self._goals.shape} and an empty info; expected a number for each step."
        )


@runtime_checkable
class HasGoals(Protocol):
    """Host environments that say what steps pay for other goals."""

    def goal_rule(self) -> GoalRule:
        """The rule; it is tried out by stepping, so what comes next must be a `reset` or `set_state`."""
        ...


def _method(env: gymnasium.Env[Any, Any], name: str) -> Callable[..., Any] | None:
    try:
        found = env.get_wrapper_attr(name)
    except AttributeError:
        return None
    return found if callable(found) else None
