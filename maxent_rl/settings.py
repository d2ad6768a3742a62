"""Settings as dataclass fields that know their bounds, so that impossible numbers are refused before anything is built.

A field says its bounds in its annotation (`learning_rate: Positive = 3e-4`), its meaning in the string below it (which
the command line shows), and whether it is structural: `static(...)` fields decide shapes and programs, all others are
pytree leaves that change without compiling anew.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Annotated, Any, Literal, TypeAlias

from flax import struct

from maxent_rl.errors import InvalidSettingError, unknown_name


@dataclasses.dataclass(frozen=True)
class Interval:
    """Bounds of a number; an open end excludes the bound itself."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        """Whether `value` is a finite number within the bounds."""
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        """The bounds in words, to follow "must be"."""
        parts = []
        if self.low > -math.inf:
            parts.append(f"{'greater than' if self.low_open else 'at least'} {self.low:g}")
        if self.high < math.inf:
            parts.append(f"{'less than' if self.high_open else 'at most'} {self.high:g}")
        return " and ".join(parts) or "finite"


Finite: TypeAlias = Annotated[float, Interval()]
Positive: TypeAlias = Annotated[float, Interval(0, low_open=True)]
Weight: TypeAlias = Annotated[float, Interval(0)]
Fraction: TypeAlias = Annotated[float, Interval(0, 1)]
Count: TypeAlias = Annotated[int, Interval(1)]
NonNegative: TypeAlias = Annotated[int, Interval(0)]


def static(default: Any) -> Any:
    """A structural field: part of the program, not of the data. It must be hashable."""
    return struct.field(pytree_node=False, default=default)  # type: ignore[no-untyped-call]


def check_settings(settings: Any) -> None:
    """Checks every field of a dataclass instance against its annotation.

    Args:
      settings: an agent or a run configuration.

    Raises:
      InvalidSettingError: for a number out of bounds or of the wrong kind.
      UnknownNameError: for a name that is not among a field's choices.
    """
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        _check(field.name, getattr(settings, field.name), hints[field.name])


def _check(name: str, value: Any, hint: Any) -> None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        for bounds in (extra for extra in arguments[1:] if isinstance(extra, Interval)):
            _check_number(name, value, arguments[0], bounds)
    elif origin is Literal:
        if value not in arguments:
            raise unknown_name(f"value for {flag(name)}", str(value), map(str, arguments))
    elif origin is tuple:
        if not isinstance(value, (tuple, list)):
            raise InvalidSettingError(f"{flag(name)} must be several values, got {value!r}.")
        for entry in value:
            _check(name, entry, arguments[0])
        if not value and arguments[-1] is Ellipsis:
            raise InvalidSettingError(f"{flag(name)} needs at least one value.")
    elif type(None) in arguments and value is not None:
        _check(name, value, next(option for option in arguments if option is not type(None)))


def _check_number(name: str, value: Any, kind: Any, bounds: Interval) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hasattr(value, "dtype"):  # an array of values, one for each member of a vmapped sweep
        is_number = value.ndim == 0
        value = value.item() if is_number else value
        if not is_number:
            for entry in value.ravel().tolist():
                _check_number(name, entry, kind, bounds)
            return
    if not is_number or (kind is int and int(value) != value):
        wanted = "a whole number" if kind is int else "a number"
        raise InvalidSettingError(f"{flag(name)} must be {wanted}, got {value!r}.")
    if not math.isfinite(value):
        raise InvalidSettingError(f"{flag(name)} must be a finite number, got {value}.")
    if value not in bounds:
        raise InvalidSettingError(f"{flag(name)} must be {bounds}, got {value:g}.")


def flag(name: str) -> str:
    """The command-line spelling of a field's name: `learning_rate` is `--learning-rate`."""
    return "--" + name.replace("_", "-")
