"""Catch, seen as an image: the smallest game that must be looked at, for agents that read pixels.

Source: Recurrent Models of Visual Attention (arXiv 1406.6247), section 4.2; the size of image, paddle and steps is our own.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.spaces import Space
from maxent_rl.types import Array, Spec


@struct.dataclass
class CatchState:
    """Where things are, in pixels from the upper left.

    Attributes:
      column: [] float32 left edge of the block; whole.
      row: [] float32 its upper edge; whole.
      paddle: [] float32 left edge of the paddle.
    """

    column: Array
    row: Array
    paddle: Array


@dataclasses.dataclass(frozen=True)
class Catch:
    """A block falls, and a paddle must be under all of it: the last of seven steps pays 1 where it is caught, else -1.

    The paddle moves 4 pixels in a step: left (0), not at all (1) or right (2), or by any share of them where it is
    `continuous`. It begins in the middle, from where it reaches every block in time; one that stays there catches 5 of 29.

    Attributes:
      continuous: whether an action is how far to move, [1] in [-1, 1].
    """

    SIDE: ClassVar[int] = 32
    BLOCK: ClassVar[int] = 4
    PADDLE: ClassVar[int] = 8
    STRIDE: ClassVar[int] = 4

    continuous: bool = False

    @property
    def spec(self) -> Spec:
        """Observations are grey images, 255 where something is: the block, and the paddle in the lowest 4 rows."""
        space = Space("box", (self.SIDE, self.SIDE, 1), "uint8")
        shape, count = ((1,), None) if self.continuous else ((), 3)
        horizon = self.SIDE // self.STRIDE - 1
        return Spec((space.size,), shape, horizon, num_actions=count, observation_space=space)

    def reset(self, key: Array) -> tuple[CatchState, Array]:
        """Starts with a block at the top, in any column."""
        column = jax.random.randint(key, (), 0, self.SIDE - self.BLOCK + 1).astype(jnp.float32)
        state = CatchState(column, jnp.zeros(()), jnp.float32((self.SIDE - self.PADDLE) / 2))
        return state, self.image(state)

    def step(self, state: CatchState, action: Array) -> tuple[CatchState, Array, Array, Array]:
        """Moves the paddle, then the block."""
        moved = action[0] if self.continuous else action - 1
        paddle = jnp.clip(state.paddle + self.STRIDE * moved, 0, self.SIDE - self.PADDLE)
        state = CatchState(state.column, state.row + self.STRIDE, paddle)
        landed = state.row >= self.SIDE - self.BLOCK
        away = jnp.abs(state.column + self.BLOCK / 2 - paddle - self.PADDLE / 2)
        caught = away <= (self.PADDLE - self.BLOCK) / 2
        return state, self.image(state), jnp.where(landed, jnp.where(caught, 1.0, -1.0), 0.0), landed

    def image(self, state: CatchState) -> Array:
        """What there is to see, [observation]: the paddle at the nearest whole pixel."""
        places = jnp.arange(self.SIDE)

        def covered(first: Array | int, size: int) -> Array:
            return (places >= first) & (places < first + size)

        block = covered(state.row, self.BLOCK)[:, None] & covered(state.column, self.BLOCK)
        paddle = covered(self.SIDE - self.BLOCK, self.BLOCK)[:, None] & covered(jnp.round(state.paddle), self.PADDLE)
        return jnp.where(block | paddle, 255.0, 0.0).ravel()
