"""Losses are computed in single precision at least, whatever precision a model computes in.

Half precision has no number for what losses make of theirs: float16 ends at 65,504, which is the square of 256 and the
exponential of 11.1, and a sum over a few hundred tokens loses whole tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def at_least_single(value: ArrayLike) -> Array:
    """An array in single precision, if its own is half; all others, whole numbers and booleans too, as they are.

    Args:
      value: [...].

    Returns:
      [...]. Its gradient goes back in the precision of `value`; float16 holds it at its largest number where it is larger.
    """
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array
    limits = jnp.finfo(array.dtype)  # type: ignore[no-untyped-call]
    if limits.bits >= 32:
        return array
    single: Array = _widened(array) if float(limits.max) < 1e6 else array.astype(jnp.float32)
    return single


def in_single_precision(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """A loss whose arguments of half precision are taken in single precision, and whose results are of that."""

    @functools.wraps(function)
    def widened(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        args, kwargs = jax.tree.map(_wide, (args, kwargs))
        return function(*args, **kwargs)

    return widened


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def held_within(value: Array, low: float, high: float) -> Array:
    """The value within bounds, with the gradient that it has without them.

    A plain clip would take all gradient from what lies beyond, however large what it makes of the loss.

    Args:
      value: [...].
      low: the smallest result.
      high: the largest.

    Returns:
      [...]; its derivative in `value` is 1 everywhere.
    """
    return jnp.clip(value, low, high)


@held_within.defjvp
def _held_derivative(low: float, high: float, primals: Any, tangents: Any) -> tuple[Array, Array]:
    return held_within(primals[0], low, high), tangents[0]


def _wide(leaf: Any) -> Any:
    return at_least_single(leaf) if hasattr(leaf, "dtype") else leaf


@jax.custom_vjp
def _widened(value: Array) -> Array:
    return value.astype(jnp.float32)


def _widen(value: Array) -> tuple[Array, Array]:
    return _widened(value), jnp.zeros((), value.dtype)


def _narrow(kept: Array, slope: Array) -> tuple[Array]:
    most = float(jnp.finfo(kept.dtype).max)  # type: ignore[no-untyped-call]
    return (jnp.clip(slope, -most, most).astype(kept.dtype),)


_widened.defvjp(_widen, _narrow)
