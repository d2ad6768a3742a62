"""Values of settings as they stand on a command line or in a folder's name, read and written by the setting's own type."""

from __future__ import annotations

import re
import types
import typing
from typing import Annotated, Any, Literal

from maxent_rl.errors import InvalidSettingError, unknown_name
from maxent_rl.settings import flag

_WORDS = {"true": True, "false": False}


def parse_value(name: str, text: str, hint: Any) -> Any:
    """Reads one value of a setting.

    Args:
      name: of the setting, for messages.
      text: what the user wrote: `3e-4`, `none`, `simba`, `true`, and `64x64` (or `64 64`) for several numbers.
      hint: the setting's annotation.

    Raises:
      InvalidSettingError: the text is no value of that type.
      UnknownNameError: the text is none of the setting's choices.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return parse_value(name, text, arguments[0])
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and text.lower() == "none":
            return None
        return parse_value(name, text, next(option for option in arguments if option is not type(None)))
    if origin is Literal:
        if text not in arguments:
            raise unknown_name(f"value for {flag(name)}", text, map(str, arguments))
        return text
    if origin is tuple:
        return tuple(parse_value(name, part, arguments[0]) for part in re.split(r"[x\s]+", text.strip("() ")))
    return _parse_plain(name, text, hint)


def _parse_plain(name: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in _WORDS:
            raise InvalidSettingError(f"{flag(name)} must be true or false, got {text!r}.")
        return _WORDS[text.lower()]
    if kind not in (int, float):
        return text
    try:
        number = float(text)
    except ValueError:
        raise InvalidSettingError(f"{flag(name)} must be a number, got {text!r}.") from None
    if kind is int and number.is_integer():
        return int(number)
    if kind is int:
        raise InvalidSettingError(f"{flag(name)} must be a whole number, got {text!r}.")
    return number


def value_text(value: Any) -> str:
    """A value as part of a folder's name; different values of one setting give different texts."""
    if isinstance(value, (tuple, list)):
        return "x".join(map(value_text, value))
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return re.sub(r"[^\w.+-]", "-", str(value).lower() if value is None or isinstance(value, bool) else str(value))
