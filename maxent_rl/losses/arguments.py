"""What losses ask of their arguments, and how they say that they did not get it. Values inside a trace are not looked at."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike


def expect_positive(**values: Any) -> None:
    """Raises ValueError where a Python number is not above 0 (NaN among them); arrays are taken as they are."""
    for name, value in values.items():
        if isinstance(value, (int, float)) and not value > 0:
            raise ValueError(f"Expected {name} above 0, got {value}.")


def expect_between(low: float, high: float, closed: str = "[]", **values: Any) -> None:
    """Raises ValueError where a Python number lies outside the interval; `closed` writes its ends: "[)" leaves out `high`."""
    for name, value in values.items():
        if not isinstance(value, (int, float)):
            continue
        inside = (low <= value if closed[0] == "[" else low < value) and (
            value <= high if closed[1] == "]" else value < high
        )
        if not inside:
            raise ValueError(f"Expected {name} in {closed[0]}{low:g}, {high:g}{closed[1]}, got {value}.")


def expect_same_shape(**arrays: ArrayLike) -> None:
    """Raises ValueError where two arrays differ in shape: broadcasting would pair what does not belong together."""
    shapes = {name: jnp.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"Expected equal shapes, got {found}.")


def expect_scalar_or_shape_of(expected: ArrayLike, **arrays: ArrayLike) -> None:
    """Raises ValueError where an array is neither a scalar nor of the shape of `expected`."""
    shape = jnp.shape(expected)
    for name, array in arrays.items():
        if jnp.shape(array) not in ((), shape):
            raise ValueError(f"Expected {name} to be a scalar or of shape {shape}, got shape {jnp.shape(array)}.")
