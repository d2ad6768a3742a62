"""Environments that pay for the set of what was visited: each step pays what it adds to what the steps before it reached.

An environment is a motion, which says how one moves and which element of the ground set each state is, and a set function.
Rewards are marginal gains, so that the return of an episode is the function's value of the whole trajectory, less that of
its start. An episode ends in a terminal state at its horizon: there is no value after it.

Source: Submodular Reinforcement Learning (arXiv 2307.13372).
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from maxent_rl.errors import InvalidSettingError
from maxent_rl.set_functions.base import SetFunction
from maxent_rl.types import Array, PyTree, Spec


class Motion(Protocol):
    """How one moves among the elements of a ground set. Must be hashable.

    Attributes:
      observation_size: entries of `observe`.
      action_size: entries of a continuous action, or None where actions are discrete.
      num_actions: number of discrete actions, or None.
      visits_start: whether the start is the first element of a trajectory; else the first step's state is.

    A motion over elements that are numbers says how many there are (`num_elements`), and one whose observations count steps
    up to how many (`steps`, 0 for none), so that an environment can refuse what does not fit.
    """

    @property
    def observation_size(self) -> int: ...  # noqa: D102

    @property
    def action_size(self) -> int | None: ...  # noqa: D102

    @property
    def num_actions(self) -> int | None: ...  # noqa: D102

    @property
    def visits_start(self) -> bool: ...  # noqa: D102

    def reset(self, key: Array) -> PyTree:
        """A state to start from; it carries all randomness of the episode."""
        ...

    def move(self, state: PyTree, action: Array) -> tuple[PyTree, Array]:
        """The state after an action [] or [action], and whether the episode must end there [] bool."""
        ...

    def observe(self, state: PyTree) -> Array:
        """[observation_size] of a state, around -1 to 1."""
        ...

    def element(self, state: PyTree) -> Array:
        """Which element of the ground set a state is: [] index or [axis] point."""
        ...


class SubmodularState(NamedTuple):
    """The state of an episode.

    Attributes:
      place: the motion's state.
      memory: the set function's.
      elapsed: [] int32 steps taken.
    """

    place: PyTree
    memory: PyTree
    elapsed: Array


@dataclasses.dataclass(frozen=True)
class SubmodularEnv:
    """A motion and a set function as a device environment.

    Observations are the motion's, then the share of the horizon that has passed, then (where `visited`) the function's
    summary of the visited set, and last what the element alone is worth: the additive reward, from which agents without an
    eye for repetition learn (`Spec.additive_reward`).

    Attributes:
      motion: how one moves.
      function: what visits are worth.
      horizon: steps of an episode.
      visited: whether observations tell what was visited.
      scale: all rewards are multiplied by this.
    """

    motion: Motion
    function: SetFunction
    horizon: int
    visited: bool = False
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuses what cannot be stepped to its end."""
        if self.horizon < 1:
            raise InvalidSettingError(f"The horizon must be at least 1, got {self.horizon}.")
        if not 0 < self.scale < math.inf:
            raise InvalidSettingError(f"The scale of rewards must be above 0 and finite, got {self.scale:g}.")
        moved, known = getattr(self.motion, "num_elements", None), self.function.ground_set_size
        if moved is not None and known is not None and moved > known:
            raise InvalidSettingError(
                f"{type(self.motion).__name__} moves among {moved} elements, but {type(self.function).__name__} has {known}."
            )
        steps = getattr(self.motion, "steps", 0)
        if 0 < steps < self.horizon:
            raise InvalidSettingError(
                f"{type(self.motion).__name__} tells steps up to {steps} apart, but an episode has {self.horizon}: "
                "set its `steps` to the horizon."
            )
        elements = self.horizon + self.motion.visits_start
        if self.function.capacity is not None and elements > self.function.capacity:
            raise InvalidSettingError(
                f"An episode of {self.horizon} steps visits {elements} elements, but the memory of "
                f"{type(self.function).__name__} holds {self.function.capacity}: raise its capacity or shorten the horizon."
            )

    @property
    def spec(self) -> Spec:
        """Shapes and horizon."""
        size = self.motion.observation_size + 2 + (self._summary_size if self.visited else 0)
        action_shape = () if self.motion.action_size is None else (self.motion.action_size,)
        return Spec((size,), action_shape, self.horizon, self.motion.num_actions, additive_reward=True)

    def reset(self, key: Array) -> tuple[SubmodularState, Array]:
        """Starts an episode."""
        place, memory = self.motion.reset(key), self.function.empty()
        if self.motion.visits_start:
            memory, _ = self.function.add(memory, self.motion.element(place))
        state = SubmodularState(place, memory, jnp.zeros((), jnp.int32))
        return state, self._observe(state, jnp.zeros(()))

    def step(self, state: SubmodularState, action: Array) -> tuple[SubmodularState, Array, Array, Array]:
        """Moves, and pays what the new element adds."""
        place, ended = self.motion.move(state.place, action)
        element = self.motion.element(place)
        memory, gain = self.function.add(state.memory, element)
        after = SubmodularState(place, memory, state.elapsed + 1)
        observation = self._observe(after, self.scale * self.function.single(element))
        return after, observation, self.scale * gain, ended | (after.elapsed >= self.horizon)

    def start_value(self, state: SubmodularState) -> Array:
        """What the start of an episode is worth [], of the state that `reset` returned: F(trajectory) less the return."""
        return self.element_value_at_start(self.motion.element(state.place))

    def element_value_at_start(self, element: Array) -> Array:
        """What an element is worth [] as the start of a trajectory; 0 where trajectories begin with the first step."""
        return self.scale * self.function.single(element) if self.motion.visits_start else jnp.zeros(())

    def _observe(self, state: SubmodularState, additive: Array) -> Array:
        parts = [self.motion.observe(state.place), (state.elapsed / self.horizon)[None]]
        if self.visited:
            parts.append(self.function.summary(state.memory))
        return jnp.concatenate([*parts, additive[None]]).astype(jnp.float32)

    @property
    def _summary_size(self) -> int:
        return int(jax.eval_shape(lambda: self.function.summary(self.function.empty())).shape[0])
