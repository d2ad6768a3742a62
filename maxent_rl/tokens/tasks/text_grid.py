"""A grid world told in text: `0417:03>21#..#` names a maze, where one stands, where the goal is, and what is around."""

from __future__ import annotations

import dataclasses
import string
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Fraction, Interval
from maxent_rl.tokens.tasks.conversation import ConversationTask, Reply
from maxent_rl.tokens.tasks.writing import (
    END_TOKEN,
    FIRST_CHARACTER,
    PAD_TOKEN,
    fingerprint,
    write_number,
)
from maxent_rl.types import Array

_MAZE_DIGITS = 4
_DIRECTIONS = "nesw"
_STEPS = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])  # x grows to the east, y to the south
_FAR = 10_000  # moves to a goal that cannot be reached


class Way(NamedTuple):
    """Which maze [], where one stands [2] and where the goal is [2], (x, y); int32."""

    maze: Array
    place: Array
    goal: Array


class Walk(NamedTuple):
    """The way that is left, and how many turns there were [], int32."""

    way: Way
    turn: Array


@dataclasses.dataclass(frozen=True)
class TextGrid(ConversationTask[Way]):
    """A goal is to be reached in a maze of which only the four cells around are told.

    Each turn moves by one cell, `n`, `e`, `s` or `w`, unless a wall is there, and is told where one stands then, x and y, and
    what is to the north, east, south and west: `.` for free, `#` for a wall. What is no move leaves one where one is. The goal
    ends the episode and pays `1 - 0.9 turns / most turns`, as in `maxent/LavaGap`; whoever has had all turns is cut.

    Walls follow from the maze's number by a fixed hash; only problems are posed whose goal can be reached, in at most
    `farthest` moves. Demonstrations take a shortest way, but for a share of them that strays: each of its moves is drawn at
    random with a chance of one half.

    Attributes:
      size: cells on each side, with walls all around them.
      walls: chance of a cell to be a wall.
      farthest: most moves of a shortest way.
      most_turns: K; there are at least as many as a shortest way has.
      strays: share of demonstrations that stray.
    """

    size: Annotated[int, Interval(2, 10)] = 4
    walls: Annotated[float, Interval(0, 0.6)] = 0.25
    farthest: Annotated[int, Interval(1, 30)] = 5
    most_turns: Annotated[int, Interval(1, 60)] = 8
    strays: Fraction = 0.7

    def __post_init__(self) -> None:
        """Checks the sizes.

        Raises:
          InvalidSettingError: a size out of its bounds, or fewer turns than moves.
        """
        super().__post_init__()
        if self.most_turns < self.farthest:
            raise InvalidSettingError(
                f"--most-turns {self.most_turns} are too few for ways of --farthest {self.farthest} moves: raise it."
            )

    @property
    def name(self) -> str:
        """The task's name."""
        return "text-grid"

    @property
    def characters(self) -> str:
        """Digits, the signs of prompts and cells, and the directions."""
        return string.digits + ":>.#" + _DIRECTIONS

    @property
    def prompt_length(self) -> int:
        """The maze's number, a colon, the place, a sign, the goal, and what is around."""
        return _MAZE_DIGITS + 1 + 2 + 1 + 2 + 4

    @property
    def turn_length(self) -> int:
        """A direction and the end."""
        return 2

    @property
    def reply_length(self) -> int:
        """The place, and what is around."""
        return 2 + 4

    @property
    def max_turns(self) -> int:
        """Turns."""
        return self.most_turns

    def draw(self, key: Array) -> tuple[Way, Array]:
        """Draws a maze, a place and a goal; it is no problem if there is no way, or one too far."""
        maze_key, places_key = jax.random.split(key)
        places = jax.random.randint(places_key, (2, 2), 0, self.size)
        way = Way(jax.random.randint(maze_key, (), 0, 10**_MAZE_DIGITS), places[0], places[1])
        distance = self.difficulty(way)
        return way, (distance >= 1) & (distance <= self.farthest)

    def write(self, problem: Way) -> Array:
        """`0417:03>21#..#`."""
        colon, to = (int(token) for token in self.encode(":>"))
        maze, _ = write_number(problem.maze, _MAZE_DIGITS)  # with its leading zeros
        place, goal = FIRST_CHARACTER + problem.place, FIRST_CHARACTER + problem.goal
        pieces = [maze, jnp.array([colon]), place, jnp.array([to]), goal, self._around(problem)]
        return jnp.concatenate(pieces).astype(jnp.int32)

    def read(self, prompt: Array) -> Way:
        """The maze's number, the place and the goal; what is around follows from them."""
        digits = prompt - FIRST_CHARACTER
        powers = jnp.asarray(10 ** np.arange(_MAZE_DIGITS)[::-1], jnp.int32)
        first = _MAZE_DIGITS + 1
        maze = jnp.sum(digits[:_MAZE_DIGITS] * powers)
        return Way(maze, digits[first : first + 2], digits[first + 3 : first + 5])

    def identity(self, problem: Way) -> Array:
        """The maze alone."""
        return problem.maze[None]

    def difficulty(self, problem: Way) -> Array:
        """Moves of a shortest way."""
        return self.distances(problem)[problem.place[0], problem.place[1]].astype(jnp.float32)

    def begin(self, problem: Way, key: Array) -> Walk:
        """Before the first move."""
        return Walk(problem, jnp.zeros((), jnp.int32))

    def reply(self, state: Walk, said: Array, length: Array) -> Reply:
        """Where one stands now, and what is around."""
        direction = said[0] - int(self.encode(_DIRECTIONS[0])[0])
        moves = (length == self.turn_length) & (said[1] == END_TOKEN) & (direction >= 0) & (direction < 4)
        front = state.way.place + jnp.asarray(_STEPS)[jnp.clip(direction, 0, 3)]
        place = jnp.where(moves & ~self._walls_at(state.way.maze, front), front, state.way.place)
        way = state.way._replace(place=place)
        arrived, turn = jnp.all(place == way.goal), state.turn + 1
        earned = jnp.where(arrived, 1.0 - 0.9 * turn / self.most_turns, 0.0).astype(jnp.float32)
        told = jnp.concatenate([FIRST_CHARACTER + place, self._around(way)]).astype(jnp.int32)
        return Reply(Walk(way, turn), told, jnp.asarray(self.reply_length), earned, arrived)

    def anchor(self, state: Walk, told: Array) -> Array:
        """Where one stands, however one came there."""
        x, y = state.way.place
        return jnp.asarray(x * self.size + y, jnp.int32)

    def lines(self, key: Array | None, problem: Way) -> tuple[Array, Array]:
        """A shortest way to the goal; with a key perhaps one that strays."""
        distances = self.distances(problem)
        drawn = key is not None
        keys = jax.random.split(jax.random.key(0) if key is None else key, self.most_turns + 1)
        strays = drawn & jax.random.bernoulli(keys[0], self.strays)

        def move(place: Array, key: Array) -> tuple[Array, tuple[Array, Array]]:
            whether, where, among = jax.random.split(key, 3)
            fronts = place + jnp.asarray(_STEPS)
            blocked = self._walls_at(problem.maze, fronts)
            left = jnp.where(blocked, 2 * _FAR, distances[tuple(jnp.clip(fronts, 0, self.size - 1).T)])
            # Of equally short ways any, or without a key the first.
            direction = jnp.argmin(left + drawn * 0.5 * jax.random.uniform(among, (4,)))
            at_random = strays & jax.random.bernoulli(whether)
            direction = jnp.where(at_random, jax.random.randint(where, (), 0, 4), direction)
            after = jnp.where(blocked[direction], place, fronts[direction])
            return after, (direction, jnp.any(place != problem.goal))

        _, (directions, going) = jax.lax.scan(move, problem.place, keys[1:])
        number = jnp.sum(jnp.cumprod(going))
        first = int(self.encode(_DIRECTIONS[0])[0])
        lines = jnp.stack([first + directions, jnp.full(self.most_turns, END_TOKEN)], axis=1)
        return jnp.where((jnp.arange(self.most_turns) < number)[:, None], lines, PAD_TOKEN), number

    def distances(self, problem: Way) -> Array:
        """[size, size] int32 by (x, y): moves to the goal; a large number where there is no way."""
        x, y = jnp.meshgrid(jnp.arange(self.size), jnp.arange(self.size), indexing="ij")
        walls = self._walls_at(problem.maze, jnp.stack([x, y], axis=-1))
        start = jnp.where((x == problem.goal[0]) & (y == problem.goal[1]) & ~walls, 0, _FAR)

        def spread(_: Array, known: Array) -> Array:
            wide = jnp.pad(known, 1, constant_values=_FAR)
            near = jnp.stack([wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:]])
            return jnp.where(walls, _FAR, jnp.minimum(known, jnp.min(near, axis=0) + 1))

        found: Array = jax.lax.fori_loop(0, self.size**2, spread, start)
        return jnp.minimum(found, _FAR)

    def _walls_at(self, maze: Array, places: Array) -> Array:
        """[...] bool: whether there are walls at places [..., 2]; there are all around the grid."""
        inside = jnp.all((places >= 0) & (places < self.size), axis=-1)
        flat = places.reshape(-1, 2)
        hashes = jax.vmap(lambda place: fingerprint(jnp.concatenate([maze[None], place])))(flat)
        return ~inside | (hashes % 1000 < round(1000 * self.walls)).reshape(inside.shape)

    def _around(self, way: Way) -> Array:
        """[4] tokens of the cells to the north, east, south and west."""
        free, wall = (int(token) for token in self.encode(".#"))
        return jnp.where(self._walls_at(way.maze, way.place + jnp.asarray(_STEPS)), wall, free)
