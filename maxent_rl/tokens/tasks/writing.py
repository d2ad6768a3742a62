"""Numbers and tokens: how the tasks write and read text inside compiled programs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.types import Array

PAD_TOKEN = 0
END_TOKEN = 1
FIRST_CHARACTER = 2
"""The token of a task's first character; where a task has digits, that is 0."""


def response_mask(responses: Array) -> Array:
    """[..., T] bool, of responses [..., T]: True up to and including the first end token, or everywhere without one."""
    ends = (responses == END_TOKEN).astype(jnp.int32)
    return jnp.cumsum(ends, axis=-1) - ends == 0


def write_number(number: Array, width: int) -> tuple[Array, Array]:
    """Writes whole numbers from 0 in decimal, without leading zeros.

    Args:
      number: [...] int32, below 10 ** width.
      width: room for digits.

    Returns:
      (tokens [..., width], shown [..., width] bool, False where a leading zero would stand).
    """
    powers = jnp.asarray(10 ** np.arange(width)[::-1], jnp.int32)
    tokens = FIRST_CHARACTER + number[..., None] // powers % 10
    return tokens, (number[..., None] >= powers) | (powers == 1)


def write_token(token: int | Array, shown: bool | Array = True) -> tuple[Array, Array]:
    """One token as `write_number` gives several: ([1], [1]), or with more leading axes as `token` has them."""
    token = jnp.asarray(token)
    return token[..., None], jnp.broadcast_to(jnp.asarray(shown), token.shape)[..., None]


def join(pieces: list[tuple[Array, Array]], pad_left: bool = False) -> Array:
    """Joins pieces of text and moves what is not shown to one side, as padding.

    Args:
      pieces: (tokens [..., length], shown [..., length]), with the same leading axes.
      pad_left: whether padding goes to the left.

    Returns:
      [..., sum of the lengths] int32 tokens.
    """
    tokens = jnp.concatenate([piece for piece, _ in pieces], axis=-1).astype(jnp.int32)
    shown = jnp.concatenate([piece for _, piece in pieces], axis=-1)
    order = jnp.argsort(shown if pad_left else ~shown, axis=-1, stable=True)
    return jnp.take_along_axis(jnp.where(shown, tokens, PAD_TOKEN), order, axis=-1)


def read_numbers(tokens: Array, count: int) -> Array:
    """Reads the numbers of a text in which one other character stands after each but the last.

    Args:
      tokens: [length], padded on the left.
      count: how many numbers there are.

    Returns:
      [count] int32.
    """
    digit = tokens - FIRST_CHARACTER
    is_digit = (digit >= 0) & (digit < 10)
    separators = jnp.cumsum(~is_digit & (tokens != PAD_TOKEN))

    def append(numbers: Array, entry: tuple[Array, Array, Array]) -> tuple[Array, None]:
        position, value, counts = entry
        return jnp.where(counts & (jnp.arange(count) == position), numbers * 10 + value, numbers), None

    numbers: Array = jax.lax.scan(append, jnp.zeros(count, jnp.int32), (separators, digit, is_digit))[0]
    return numbers


def fingerprint(values: Array) -> Array:
    """[] uint32 hash of whole numbers [length], the same on every machine and in every version.

    A polynomial modulo 2 ** 32, whose bits are then mixed as MurmurHash3 finishes (public domain).
    """
    powers = [pow(0x9E3779B1, exponent, 2**32) for exponent in range(1, values.shape[0] + 1)]
    mixed = jnp.sum((values.astype(jnp.uint32) + jnp.uint32(1)) * jnp.array(powers, jnp.uint32), dtype=jnp.uint32)
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
    return mixed ^ (mixed >> 16)
