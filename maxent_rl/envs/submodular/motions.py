"""How one moves among finitely many elements: over a grid, along a graph, or by free choice.

Source of the grid's moves and of the free choice: Submodular Reinforcement Learning (arXiv 2307.13372).
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from maxent_rl.errors import InvalidSettingError
from maxent_rl.set_functions.base import Table, refuse_shape, refuse_unwrapped
from maxent_rl.types import Array, PyTree

Floats = NDArray[np.floating[Any]]
Whole = NDArray[np.integer[Any]]

STAY, UP, RIGHT, DOWN, LEFT = range(5)
_STEPS = ((0, 0), (-1, 0), (0, 1), (1, 0), (0, -1))  # (down, right) of each action


class WalkState(NamedTuple):
    """Where a walk is.

    Attributes:
      element: [] int32.
      elapsed: [] int32 steps taken.
      key: [] random key where moves are random, else ().
    """

    element: Array
    elapsed: Array
    key: PyTree


class Walk(abc.ABC):
    """A motion over the nodes of a graph: each action leads along one edge, unless it slips.

    Attributes:
      start: the node where every episode begins.
      steps: 0, or the horizon for observations that are one-hot over pairs of a node and a step from 0 to the horizon:
        what a linear policy needs to be any policy that depends on place and time.
      slipping: probability that one of all actions, drawn uniformly, is taken in place of the one chosen.
    """

    start: int
    steps: int
    slipping: float

    @property
    @abc.abstractmethod
    def led_to(self) -> Whole:
        """[node, action] the node that an action leads to."""

    @abc.abstractmethod
    def _node_seen(self, place: Array) -> Array:
        """What is observed of a node [] where steps are not."""

    @property
    def observation_size(self) -> int:
        """Entries of `observe`."""
        return int(jax.eval_shape(self.observe, _walk_state(0, ())).shape[0])

    @property
    def action_size(self) -> None:
        """Actions are discrete."""
        return None

    @property
    def num_elements(self) -> int:
        """The nodes."""
        return len(self.led_to)

    @property
    def num_actions(self) -> int:
        """The most edges of a node."""
        return int(self.led_to.shape[1])

    @property
    def visits_start(self) -> bool:
        """A trajectory begins at the start."""
        return True

    def reset(self, key: Array) -> WalkState:
        """Begins at the start."""
        return _walk_state(self.start, key if self.slipping > 0 else ())

    def move(self, state: WalkState, action: Array) -> tuple[WalkState, Array]:
        """Follows the edge of an action [], or slips; an episode never ends for it."""
        key = state.key
        if self.slipping > 0:
            key, slip_key, draw_key = jax.random.split(state.key, 3)
            drawn = jax.random.randint(draw_key, (), 0, self.num_actions)
            action = jnp.where(jax.random.bernoulli(slip_key, self.slipping), drawn, action)
        element = jnp.asarray(self.led_to, jnp.int32)[state.element, action]
        return WalkState(element, state.elapsed + 1, key), jnp.zeros((), bool)

    def observe(self, state: WalkState) -> Array:
        """Where it is and, with `steps`, when."""
        if self.steps:
            return jax.nn.one_hot(state.element * (self.steps + 1) + state.elapsed, len(self.led_to) * (self.steps + 1))
        return self._node_seen(state.element)

    def element(self, state: WalkState) -> Array:
        """The node []."""
        return state.element

    def element_seen(self, observation: Floats) -> Whole:
        """The nodes [...] that observations [..., observation] show."""
        if self.steps:
            pairs = observation[..., : len(self.led_to) * (self.steps + 1)]
            return np.asarray(np.argmax(pairs, axis=-1) // (self.steps + 1))
        return np.asarray(np.argmax(observation[..., : len(self.led_to)], axis=-1))

    def _refuse_impossible(self, nodes: int) -> None:
        if not 0 <= self.start < nodes:
            raise InvalidSettingError(f"The start must be from 0 to {nodes - 1}, got {self.start}.")
        if self.steps < 0:
            raise InvalidSettingError(f"The steps of one-hot observations must be at least 0, got {self.steps}.")
        _refuse_no_probability("slipping", self.slipping)


@dataclasses.dataclass(frozen=True)
class GridWalk(Walk):
    """A walk over a grid: stay, up, right, down or left; a move off the grid or into a blocked cell stays.

    Elements are cells, counted along the rows from the upper left. Observations are (row, column) from -1 to 1, or one-hot.

    Attributes:
      rows: cells from top to bottom.
      columns: cells from left to right.
      start: the cell where every episode begins.
      blocked: [rows, columns] bool cells where nobody can go; None for none.
      slipping: as in `Walk`.
      one_hot: whether observations are one-hot over rows and then over columns: networks learn ways with many turns from
        these where from coordinates they come to rest on straight ones.
      steps: as in `Walk`.
    """

    rows: int
    columns: int
    start: int
    blocked: Table | None = None
    slipping: float = 0.0
    one_hot: bool = False
    steps: int = 0

    def __post_init__(self) -> None:
        """Refuses a grid on which nobody can stand."""
        if self.rows < 1 or self.columns < 1:
            raise InvalidSettingError(f"A grid needs at least one row and column, got {self.rows} x {self.columns}.")
        self._refuse_impossible(self.rows * self.columns)
        if self.blocked is not None:
            refuse_unwrapped("blocked cells", self.blocked)
        if self.blocked is not None and self.blocked.values.shape != (self.rows, self.columns):
            raise InvalidSettingError(
                f"Blocked cells must be [{self.rows}, {self.columns}] as the grid, got {list(self.blocked.values.shape)}."
            )
        if not self.free.ravel()[self.start]:
            raise InvalidSettingError(f"The start, cell {self.start}, is blocked.")

    @functools.cached_property
    def free(self) -> NDArray[np.bool_]:
        """[rows, columns] cells where one can stand."""
        if self.blocked is None:
            return np.ones((self.rows, self.columns), bool)
        return ~self.blocked.values.astype(bool)

    @functools.cached_property
    def led_to(self) -> Whole:
        """[cell, action] the cell that an action leads to."""
        led_to = np.empty((self.rows * self.columns, len(_STEPS)), np.int32)
        for cell in range(len(led_to)):
            row, column = divmod(cell, self.columns)
            for action, (down, right) in enumerate(_STEPS):
                aim = min(max(row + down, 0), self.rows - 1), min(max(column + right, 0), self.columns - 1)
                led_to[cell, action] = aim[0] * self.columns + aim[1] if self.free[aim] else cell
        return led_to

    def element_seen(self, observation: Floats) -> Whole:
        """The cells [...] that observations [..., observation] show."""
        if self.steps:
            return super().element_seen(observation)
        if self.one_hot:
            row, column = np.split(np.asarray(observation)[..., : self.rows + self.columns], [self.rows], axis=-1)
            return np.asarray(np.argmax(row, axis=-1) * self.columns + np.argmax(column, axis=-1))
        last = np.array([self.rows - 1, self.columns - 1])
        place = np.rint((np.asarray(observation)[..., :2] + 1) / 2 * last).astype(np.int64)
        return np.asarray(place[..., 0] * self.columns + place[..., 1])

    def _node_seen(self, place: Array) -> Array:
        where = jnp.stack([place // self.columns, place % self.columns])
        if self.one_hot:
            return jnp.concatenate([jax.nn.one_hot(where[0], self.rows), jax.nn.one_hot(where[1], self.columns)])
        # A single row or column has its middle, 0, in place of 0 / 0.
        last = np.maximum([self.rows - 1, self.columns - 1], 1)
        return jnp.asarray(2.0 * where / last - np.array([self.rows > 1, self.columns > 1]), jnp.float32)


@dataclasses.dataclass(frozen=True)
class GraphWalk(Walk):
    """A walk over a graph or a tree. Observations are one-hot.

    Attributes:
      neighbours: [node, action] int the node that an action leads to, or -1 where there is no such edge: one stays.
      start: the node where every episode begins.
      slipping: as in `Walk`.
      steps: as in `Walk`.
    """

    neighbours: Table
    start: int = 0
    slipping: float = 0.0
    steps: int = 0

    def __post_init__(self) -> None:
        """Refuses edges that lead nowhere."""
        refuse_shape("neighbours", self.neighbours, ("node", "action"), "i")
        if int(np.min(self.neighbours.values)) < -1:
            raise InvalidSettingError(
                f"Neighbours must be nodes, or -1 where there is no edge, got {int(np.min(self.neighbours.values))}."
            )
        nodes, largest = len(self.neighbours.values), int(np.max(self.neighbours.values))
        if largest >= nodes:
            raise InvalidSettingError(f"An edge leads to node {largest}, but there are nodes 0 to {nodes - 1} only.")
        self._refuse_impossible(nodes)

    @functools.cached_property
    def led_to(self) -> Whole:
        """[node, action] the node that an action leads to."""
        neighbours = self.neighbours.values
        return np.where(neighbours < 0, np.arange(len(neighbours))[:, None], neighbours).astype(np.int32)

    def _node_seen(self, place: Array) -> Array:
        return jax.nn.one_hot(place, len(self.led_to))


@dataclasses.dataclass(frozen=True)
class FreeChoice:
    """The epsilon-bandit: from anywhere each action reaches its own element, and now and then a random one.

    There is no start. Observations are one-hot over steps alone, so that policies depend on nothing but time.

    Attributes:
      elements: how many there are, each with its action.
      miss: probability epsilon that the element is drawn uniformly from all (the chosen one included) instead.
      steps: the horizon.
    """

    elements: int
    miss: float
    steps: int

    def __post_init__(self) -> None:
        """Refuses what is no choice."""
        if self.elements < 1 or self.steps < 1:
            raise InvalidSettingError(
                f"A free choice needs at least 1 element and 1 step, got {self.elements} and {self.steps}."
            )
        _refuse_no_probability("miss", self.miss)

    @property
    def observation_size(self) -> int:
        """Steps from 0 to the horizon."""
        return self.steps + 1

    @property
    def action_size(self) -> None:
        """Actions are discrete."""
        return None

    @property
    def num_elements(self) -> int:
        """As told."""
        return self.elements

    @property
    def num_actions(self) -> int:
        """One for each element."""
        return self.elements

    @property
    def visits_start(self) -> bool:
        """A trajectory begins with the first step's element."""
        return False

    @property
    def outcomes(self) -> Floats:
        """[action, element] probability of reaching each element."""
        return np.full((self.elements,) * 2, self.miss / self.elements) + (1 - self.miss) * np.eye(self.elements)

    def reset(self, key: Array) -> WalkState:
        """Begins nowhere; the element is a placeholder."""
        return _walk_state(0, key if self.miss > 0 else ())

    def move(self, state: WalkState, action: Array) -> tuple[WalkState, Array]:
        """Reaches the element of an action [], or misses it; an episode never ends for it."""
        key, element = state.key, action.astype(jnp.int32)
        if self.miss > 0:
            key, miss_key, draw_key = jax.random.split(state.key, 3)
            drawn = jax.random.randint(draw_key, (), 0, self.elements)
            element = jnp.where(jax.random.bernoulli(miss_key, self.miss), drawn, element)
        return WalkState(element, state.elapsed + 1, key), jnp.zeros((), bool)

    def observe(self, state: WalkState) -> Array:
        """[step] one-hot."""
        return jax.nn.one_hot(state.elapsed, self.steps + 1)

    def element(self, state: WalkState) -> Array:
        """The element [] that was reached last."""
        return state.element


def _walk_state(element: int, key: PyTree) -> WalkState:
    return WalkState(jnp.int32(element), jnp.zeros((), jnp.int32), key)


def _refuse_no_probability(what: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InvalidSettingError(f"The probability `{what}` must be from 0 to 1, got {value:g}.")
