"""Values of settings as they stand on a command line or in a folder's name, read and written by the setting's own type."""

from __future__ import annotations

import re
import types
import typing
from typing import Annotated, Any, Literal

from maxent_rl.settings import check_value

_WORDS = {"true": True, "false": False}


def parse_value(name: str, text: str, hint: Any) -> Any:
    """Reads one value of a setting.

    Args:
      name: of the setting, for messages.
      text: what the user wrote: `3e-4`, `1e5`, `none`, `simba`, `true`, and `64x64` (or `64,64`, `64 64`) for several numbers.
      hint: the setting's annotation.

    Raises:
      InvalidSettingError: the text is no value of that type, or one out of bounds.
      UnknownNameError: the text is none of the setting's choices.
    """
    value = read_value(text, hint)
    check_value(name, value, hint)
    return value


def read_value(text: str, hint: Any) -> Any:
    """Reads a value as `parse_value` does; the text itself where it is none, which `check_settings` then refuses by name."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return read_value(text, arguments[0])
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and text.lower() == "none":
            return None
        return read_value(text, next(option for option in arguments if option is not type(None)))
    if origin is Literal:
        return next((choice for choice in arguments if str(choice) == text), text)
    if origin is tuple:
        between = r"[x,\s]+" if is_number(arguments[0]) else r"\s+"
        return tuple(read_value(part, arguments[0]) for part in re.split(between, text.strip("() ")) if part)
    if hint is bool:
        return _WORDS.get(text.lower(), text)
    return _number(text, hint) if hint in (int, float) else text


def is_number(hint: Any) -> bool:
    """Whether an annotation is that of a number, with bounds or without."""
    return (typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint) in (int, float)


def _number(text: str, kind: Any) -> Any:
    """`1e5` is a whole number; one with a fraction stays as it is."""
    for read in (int, float) if kind is int else (float,):
        try:
            number = read(text)
        except ValueError:
            continue
        return int(number) if kind is int and number == number // 1 else number
    return text


def value_text(value: Any) -> str:
    """A value as part of a folder's name; different values of one setting give different texts."""
    if isinstance(value, (tuple, list)):
        return "x".join(map(value_text, value))
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return re.sub(r"[^\w.+-]", "-", str(value).lower() if value is None or isinstance(value, bool) else str(value))
