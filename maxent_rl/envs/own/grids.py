"""Two grid worlds as pure JAX functions: `maxent/LavaGap` and `maxent/DynamicObstacles`.

Rules, rewards, starts and time limits are those of MiniGrid's `MiniGrid-LavaGapS7-v0` and
`MiniGrid-Dynamic-Obstacles-8x8-v0` (Minigrid and Miniworld, arXiv 2306.13831), with two simplifications: the actions that
do nothing in these tasks (pick up, drop, toggle, done) are left out, and each cell of the view is one-hot among what there
can be, not a code of type, colour and state.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from maxent_rl.types import Array, Spec

VIEW = 7  # cells on each side of the square that the agent sees; it stands in the middle of the near side
WALL, GOAL, DANGER = range(3)
LEFT, RIGHT, FORWARD = range(3)
_DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # east, south, west, north; x grows to the east, y to the south


class GridState(NamedTuple):
    """Where everything is.

    Attributes:
      position: [2] int32 (x, y) of the agent.
      direction: [] int32 index into east, south, west, north.
      danger: [size, size] bool by (x, y): lava or obstacles.
      elapsed: [] int32 steps taken.
      key: [] random key of what moves by itself.
    """

    position: Array
    direction: Array
    danger: Array
    elapsed: Array
    key: Array


def _start(danger: Array, key: Array) -> GridState:
    zero = jnp.zeros((), jnp.int32)
    return GridState(jnp.ones(2, jnp.int32), zero, danger, zero, key)


def _walls(size: int) -> Array:
    inner = jnp.zeros((size - 2, size - 2), bool)
    return jnp.pad(inner, 1, constant_values=True)


def _spec(size: int) -> Spec:
    return Spec(observation_shape=(VIEW * VIEW * 3,), action_shape=(), horizon=4 * size**2, num_actions=3)


def view(state: GridState, size: int) -> Array:
    """What the agent sees: [VIEW * VIEW * 3] one-hot walls (and all beyond), the goal and dangers, it looking "up"."""
    cells = jnp.stack([_walls(size), jnp.zeros((size, size), bool).at[size - 2, size - 2].set(True), state.danger], -1)
    around = ((VIEW, VIEW), (VIEW, VIEW), (0, 0))
    outside = jnp.pad(jnp.zeros((size, size, 1), bool), around, constant_values=True)
    cells = jnp.where(outside, jnp.arange(3) == WALL, jnp.pad(cells, around))
    ahead = jnp.asarray(_DIRECTIONS)[state.direction]
    aside = jnp.asarray(_DIRECTIONS)[(state.direction + 1) % 4]
    far = jnp.arange(VIEW - 1, -1, -1)[:, None, None]
    right = jnp.arange(-(VIEW // 2), VIEW // 2 + 1)[None, :, None]
    where = state.position + far * ahead + right * aside + VIEW
    return cells[where[..., 0], where[..., 1]].astype(jnp.float32).ravel()


def _turned(state: GridState, action: Array) -> Array:
    return (state.direction + jnp.where(action == RIGHT, 1, 0) - jnp.where(action == LEFT, 1, 0)) % 4


def _reward(elapsed: Array, horizon: int) -> Array:
    return 1.0 - 0.9 * elapsed / horizon


@dataclasses.dataclass(frozen=True)
class LavaGap:
    """A room that a column of lava divides, with one gap at a place drawn anew each episode; the goal is behind it.

    Reaching the goal pays `1 - 0.9 steps / horizon`, lava nothing; both end the episode.

    Attributes:
      size: cells on each side, walls included.
    """

    size: int = 7

    @property
    def spec(self) -> Spec:
        """Observations are views."""
        return _spec(self.size)

    def reset(self, key: Array) -> tuple[GridState, Array]:
        """Draws the column (not beside a wall) and its gap."""
        column_key, gap_key = jax.random.split(key)
        column = jax.random.randint(column_key, (), 2, self.size - 2)
        gap = jax.random.randint(gap_key, (), 1, self.size - 1)
        x, y = jnp.meshgrid(jnp.arange(self.size), jnp.arange(self.size), indexing="ij")
        state = _start((x == column) & (y != gap) & ~_walls(self.size), key)
        return state, view(state, self.size)

    def step(self, state: GridState, action: Array) -> tuple[GridState, Array, Array, Array]:
        """Turns left (0) or right (1), or goes forward (2) unless a wall is there."""
        direction = _turned(state, action)
        front = state.position + jnp.asarray(_DIRECTIONS)[direction]
        moves = (action == FORWARD) & ~_walls(self.size)[front[0], front[1]]
        position = jnp.where(moves, front, state.position)
        elapsed = state.elapsed + 1
        after = state._replace(position=position, direction=direction, elapsed=elapsed)
        arrived = jnp.all(position == self.size - 2)
        burnt = state.danger[position[0], position[1]]
        reward = jnp.where(arrived, _reward(elapsed, self.spec.horizon), 0.0)
        return after, view(after, self.size), reward, arrived | burnt


@dataclasses.dataclass(frozen=True)
class DynamicObstacles:
    """A room with obstacles that wander; the goal is in the far corner.

    Reaching the goal pays `1 - 0.9 steps / horizon`; going forward into an obstacle or a wall costs 1; both end the episode.

    Attributes:
      size: cells on each side, walls included.
      obstacles: how many there are.
    """

    size: int = 8
    obstacles: int = 4

    @property
    def spec(self) -> Spec:
        """Observations are views."""
        return _spec(self.size)

    def reset(self, key: Array) -> tuple[GridState, Array]:
        """Places the obstacles on free cells."""
        place_key, key = jax.random.split(key)
        start = _start(jnp.zeros((self.size, self.size), bool), key)
        taken = ~self._free(start)
        order = jax.random.uniform(place_key, (self.size, self.size)) + taken
        least = jnp.sort(order.ravel())[self.obstacles - 1]
        state = start._replace(danger=order <= least)
        return state, view(state, self.size)

    def step(self, state: GridState, action: Array) -> tuple[GridState, Array, Array, Array]:
        """Turns left (0) or right (1), or goes forward (2); whether that is a collision counts before obstacles move."""
        front = state.position + jnp.asarray(_DIRECTIONS)[state.direction]
        blocked = state.danger[front[0], front[1]] | _walls(self.size)[front[0], front[1]]
        state = self._wander(state)
        forward = action == FORWARD
        # An obstacle may have come to stand in front since, or have left: that decides where the agent ends.
        moves = forward & ~state.danger[front[0], front[1]] & ~_walls(self.size)[front[0], front[1]]
        position = jnp.where(moves, front, state.position)
        elapsed = state.elapsed + 1
        after = state._replace(position=position, direction=_turned(state, action), elapsed=elapsed)
        arrived = jnp.all(position == self.size - 2)
        collided = forward & blocked
        reward = jnp.where(collided, -1.0, jnp.where(arrived, _reward(elapsed, self.spec.horizon), 0.0))
        return after, view(after, self.size), reward, arrived | collided

    def _wander(self, state: GridState) -> GridState:
        """Moves each obstacle, one after the other, to a free cell next to it; it stays where there is none."""
        key, move_key = jax.random.split(state.key)
        where = jnp.argwhere(state.danger, size=self.obstacles)
        x, y = jnp.meshgrid(jnp.arange(self.size), jnp.arange(self.size), indexing="ij")

        def move(danger: Array, each: tuple[Array, Array]) -> tuple[Array, None]:
            place, key = each
            near = (jnp.abs(x - place[0]) <= 1) & (jnp.abs(y - place[1]) <= 1)
            free = near & self._free(state._replace(danger=danger))
            drawn = jnp.argmax(jnp.where(free, jax.random.uniform(key, free.shape), -1.0).ravel())
            moved = danger.at[place[0], place[1]].set(False).ravel().at[drawn].set(True).reshape(danger.shape)
            return jnp.where(jnp.any(free), moved, danger), None

        danger, _ = jax.lax.scan(move, state.danger, (where, jax.random.split(move_key, self.obstacles)))
        return state._replace(danger=danger, key=key)

    def _free(self, state: GridState) -> Array:
        """[size, size] cells with nothing on them, the agent included."""
        goal = jnp.zeros((self.size, self.size), bool).at[self.size - 2, self.size - 2].set(True)
        agent = jnp.zeros((self.size, self.size), bool).at[state.position[0], state.position[1]].set(True)
        return ~(_walls(self.size) | goal | agent | state.danger)
