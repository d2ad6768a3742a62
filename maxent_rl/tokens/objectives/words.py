"""Settings of an objective as a command line has them: NAME=VALUE."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens.objectives.presets import default_of


def from_words(name: str, texts: Iterable[str]) -> dict[str, Any]:
    """Hyper-parameters of a named objective, as `make` takes them.

    Args:
      name: of the objective.
      texts: NAME=VALUE, or STAGE.NAME=VALUE where several stages have it; a value is a whole number, a number, true, false,
        none, or a word.

    Raises:
      InvalidSettingError: a text that is not NAME=VALUE.
      UnknownNameError: no such objective.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        setting, equals, value = text.partition("=")
        if not equals or not setting or not value:
            raise InvalidSettingError(f"--objective-settings takes NAME=VALUE, got {text!r}.")
        setting, value = setting.strip().replace("-", "_"), value.strip()
        is_word = isinstance(default_of(name, setting), str)  # "none" is one
        settings[setting] = value if is_word else _value(value)
    return settings


def _value(text: str) -> Any:
    """A setting's value: a whole number, a number, true, false, none, or a word."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
