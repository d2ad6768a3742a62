"""The sources of prompts by name, with settings as the command line writes them."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from maxent_rl.errors import InvalidSettingError, unknown_name
from maxent_rl.tokens.prompts.curriculum import CurriculumPrompts
from maxent_rl.tokens.prompts.mixture import MixturePrompts
from maxent_rl.tokens.prompts.pool import PoolPrompts
from maxent_rl.tokens.prompts.source import PromptSource, TaskPrompts
from maxent_rl.tokens.prompts.synthesis import SynthesisPrompts
from maxent_rl.tokens.prompts.templates import TemplatePrompts
from maxent_rl.tokens.tasks.template import Template

SOURCES: dict[str, type[PromptSource]] = {
    kind.name: kind
    for kind in (TaskPrompts, TemplatePrompts, PoolPrompts, CurriculumPrompts, MixturePrompts, SynthesisPrompts)
}
_OF_TEMPLATE = ("prefill", "marker", "form")
_WORDS = {"true": True, "false": False, "none": None}


def make_source(name: str, settings: Iterable[str] = ()) -> PromptSource:
    """Makes a source of prompts.

    Args:
      name: as in `SOURCES`.
      settings: NAME=VALUE each. Those of a source within another have its name before them, `pool.capacity=64`: of `over` of
        `templates`, and of each of the `sources` of `mixture`, names with commas between (`sources=task,pool shares=1,1`).
        `template='b{}'` gives `templates` one in place of the task's own, again for further ones; `prefill`, `marker` (again
        for further ones) and `form` behind it are of that template.

    Raises:
      UnknownNameError: no such source or setting, with the nearest right ones.
      InvalidSettingError: not NAME=VALUE, or a value that cannot be.
    """
    if name not in SOURCES:
        raise unknown_name("source of prompts", name, SOURCES)
    pairs = [_pair(text) for text in settings]
    kind = SOURCES[name]
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    if kind is TemplatePrompts:
        pairs, given = _templates(pairs)
        values |= {"given": given} if given else {}
    inner = _inner_names(kind, dict(pairs))
    nested: dict[str, list[str]] = {each: [] for each in inner}
    for setting, value in pairs:
        outer, dot, rest = setting.partition(".")
        if dot and outer in nested:
            nested[outer].append(f"{rest}={value}")
        elif setting not in fields or setting == "given":
            known = [*(each for each in fields if each != "given"), *(["template"] if kind is TemplatePrompts else [])]
            raise unknown_name(f"setting of the prompts {name!r}", setting, [*known, *(f"{each}." for each in nested)])
        elif setting in values:
            raise InvalidSettingError(f"--prompt-settings gives {setting} twice.")
        else:
            values[setting] = _value(name, setting, value, typing.get_type_hints(kind)[setting])
    made = tuple(make_source(each, nested[each]) for each in inner)
    if kind is TemplatePrompts and made:
        values["over"] = made[0]
    if kind is MixturePrompts:
        values["sources"] = made
        values.setdefault("shares", (1.0,) * len(made))
    return kind(**values)


def _inner_names(kind: type[PromptSource], given: dict[str, str]) -> tuple[str, ...]:
    """Names of the sources within."""
    if kind is TemplatePrompts:
        names: Sequence[str] = [given["over"]] if "over" in given else []
    elif kind is MixturePrompts:
        names = given.get("sources", "").split(",") if given.get("sources") else []
        if not names:
            raise InvalidSettingError("--prompts mixture needs its sources, as sources=task,pool.")
    else:
        return ()
    for each in names:
        if each not in SOURCES:
            raise unknown_name("source of prompts", each, SOURCES)
    if len(set(names)) < len(names):
        raise InvalidSettingError(f"A mixture has each source once, got {', '.join(names)}.")
    return tuple(names)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise InvalidSettingError(f"--prompt-settings takes NAME=VALUE, got {text!r}.")
    return name.strip().replace("-", "_"), value


def _templates(pairs: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], tuple[Template, ...]]:
    """The settings that are of no template, and the templates that are given."""
    others: list[tuple[str, str]] = []
    given: list[dict[str, Any]] = []
    for setting, value in pairs:
        if setting == "template":
            given.append({"text": value, "markers": ()})
        elif setting not in _OF_TEMPLATE:
            others.append((setting, value))
        elif not given:
            raise InvalidSettingError(f"{setting}={value} is of a template: write it behind its template='...{{}}...'.")
        elif setting == "marker":
            given[-1]["markers"] += (value,)
        else:
            given[-1][setting] = value
    return others, tuple(Template(**each) for each in given)


def _value(name: str, setting: str, text: str, kind: Any) -> Any:
    """A value as its setting's type wants it; what it cannot be is refused by the source."""
    if setting in ("over", "sources"):
        return text  # made apart
    if "tuple[float" in str(kind):
        return tuple(_number(setting, each) for each in text.split(","))
    if "Literal" in str(kind):
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return _number(setting, text)


def _number(setting: str, text: str) -> int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise InvalidSettingError(f"--prompt-settings {setting} must be a number, got {text!r}.")
